"""Where a cluster is spoken to, and that its token travels to nobody else."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.cluster.endpoint import Endpoint, endpoint_at, endpoint_of
from raysft.cluster.named import state_folder
from raysft.config import Cluster, load_cluster
from raysft.errors import NotAllowed, NotFound, RaysftError, UsageError

TOKEN = "a-token-that-nobody-may-see"  # noqa: S105  # of no cluster


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and what raysft remembers in it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAYSFT_HOME", raising=False)
    return tmp_path


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def cluster(folder: Path, *lines: str) -> Cluster:
    return load_cluster(write(folder / "far.yaml", "\n".join(["name: far", "local: {}", *lines])))


# --- the token is in no text


def test_the_token_is_in_no_text_that_is_made_of_an_endpoint() -> None:
    found = Endpoint("http://127.0.0.1:8265", TOKEN)
    for text in (repr(found), str(found), f"{found}", f"{[found]}"):
        assert TOKEN not in text and "127.0.0.1" in text
    assert found.headers == {"Authorization": f"Bearer {TOKEN}"} and Endpoint("http://x").headers == {}
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301  # our own


@pytest.mark.parametrize(
    "address",
    ["http://10.0.0.1:8265", "ray://x", "http://a b", "http://[::1", "http://u:p@127.0.0.1:1", "http://h:99999"],
)
def test_the_token_is_in_no_error(address: str) -> None:
    with pytest.raises(RaysftError) as refused:
        endpoint_at(address, TOKEN)
    assert TOKEN not in str(refused.value) and TOKEN not in repr(refused.value)


# --- addresses


@pytest.mark.parametrize(
    "address",
    [
        *(
            "http://127.0.0.1:8265",
            "http://localhost:8265",
            "http://LOCALHOST:1",
            "http://127.0.0.2:8265",
            "http://[::1]:8265",
        ),
        *(
            "http://127.255.255.254",
            "HTTP://127.0.0.1:8265",
            "http://127.0.0.1:8265/below/",
            "http://[0:0:0:0:0:0:0:1]:1",
        ),
    ],
)
def test_this_machine_may_be_spoken_to_over_http(address: str) -> None:
    found = endpoint_at(address, TOKEN)
    assert (found.address, found.token) == (address.rstrip("/"), TOKEN) and found.is_here


@pytest.mark.parametrize(
    "address",
    [
        *(
            "http://10.0.0.1:8265",
            "http://ray.example.org",
            "http://127.0.0.1.example.org",
            "http://localhost.example.org:1",
        ),
        *(
            "http://127.1:8265",
            "http://2130706433",
            "http://0.0.0.0:8265",
            "http://[fe80::1]:8265",
            "http://0x7f.0.0.1",
        ),
        *("http://[::ffff:10.0.0.1]:1", "http://localhost.:8265", "HTTP://example.org", "http://①②⑦.0.0.1"),
    ],
)
def test_no_token_travels_to_another_machine_over_http(address: str) -> None:
    with pytest.raises(NotAllowed, match="over http, where others may read it") as refused:
        endpoint_at(address, TOKEN)
    assert "ssh -L 8265:127.0.0.1:8265" in refused.value.next_step
    assert endpoint_at(address, TOKEN, insecure=True).token == TOKEN
    assert endpoint_at(address).token is None  # no token, nothing to read
    if address.startswith("http:"):
        assert endpoint_at(address.replace("http:", "https:"), TOKEN).token == TOKEN


@pytest.mark.parametrize(
    "address",
    [
        *("", "127.0.0.1:8265", "localhost", "ray://127.0.0.1:10001", "ftp://x", "http://", "http:///x", "//127.0.0.1"),
        *(
            "http://127.0.0.1:8265?x=1",
            "http://127.0.0.1#x",
            "http://127.0.0.1:port",
            "http://127.0.0.1:99999",
            "http://[::1",
        ),
    ],
)
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(UsageError, match="an address is like http://127") as refused:
        endpoint_at(address, TOKEN)
    assert refused.value.message.startswith(f"--address {address}: ")


@pytest.mark.parametrize(
    "address",
    [
        *("http://me:secret@127.0.0.1:8265", "http://127.0.0.1:8265@example.org", "http://example.org\\@127.0.0.1"),
        *("http://127.0.0.1:8265\\.example.org", "http://127.0.0.1 .example.org", "http://127.0.0.1\n.example.org"),
        *("http://127.0.0.1\x00.example.org", "http://example.org/\t@127.0.0.1", "http://127.0.0.1\u200b.example.org"),
    ],
)
def test_addresses_that_may_be_read_in_two_ways_are_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(UsageError, match="no user, no password and no white space") as refused:
        endpoint_at(address, TOKEN)
    assert "secret" not in str(refused.value)


@given(
    st.text(st.sampled_from("127.0:@/\\[]#? localhost.exmp%"), max_size=20), st.sampled_from(["http://", "http:", ""])
)
def test_over_http_a_token_leaves_this_machine_in_no_way(rest: str, scheme: str) -> None:
    from requests import Request
    from urllib3.util import parse_url

    try:
        found = endpoint_at(scheme + rest, TOKEN)
        sent_to = parse_url(str(Request("GET", found.address + "/api/version").prepare().url)).host
    except (RaysftError, ValueError):
        return
    assert sent_to is not None and (sent_to.startswith("127.") or sent_to in {"localhost", "[::1]"}), found.address


# --- tokens of files


def test_the_token_is_that_of_the_file_then_of_the_cluster_that_is_up_then_rays(home: Path) -> None:
    write(state_folder("far") / "address", "http://127.0.0.1:9999\n")
    assert endpoint_of(cluster(home)) == Endpoint("http://127.0.0.1:9999", None)
    write(home / ".ray/auth_token", f" {TOKEN}-of-ray\n")
    assert endpoint_of(cluster(home)).token == f"{TOKEN}-of-ray" == endpoint_at("http://localhost").token
    write(state_folder("far") / "token", f"{TOKEN}-kept")
    assert endpoint_of(cluster(home)) == Endpoint("http://127.0.0.1:9999", f"{TOKEN}-kept")
    write(home / "named", f"{TOKEN}-named\n")
    found = endpoint_of(cluster(home, "token_file: ~/named", "address: https://ray.example.org/x/"))
    assert found == Endpoint("https://ray.example.org/x", f"{TOKEN}-named")


def test_a_cluster_of_this_machine_that_is_not_up_is_no_other_one(home: Path) -> None:
    """Whatever answers at the usual address, such as another cluster at the end of a tunnel, with Ray's own token."""
    write(home / ".ray/auth_token", TOKEN)
    with pytest.raises(NotFound, match="cluster far is not up on this machine") as down:
        endpoint_of(cluster(home))
    assert "raysft cluster up" in down.value.next_step and "far.yaml" in down.value.next_step
    assert endpoint_of(cluster(home), up=False) == Endpoint("http://127.0.0.1:8265", None)  # where nothing is sent


STATIC = "name: far\nstorage: /mnt/raysft\nstatic: {head: 10.0.0.1}\n"


def test_a_cluster_of_which_nobody_knows_where_it_is_gets_no_job(home: Path) -> None:
    """Behind a tunnel to another cluster, 127.0.0.1:8265 would be that one, and take Ray's own token."""
    write(home / ".ray/auth_token", TOKEN)
    far = load_cluster(write(home / "far.yaml", STATIC))
    with pytest.raises(UsageError, match="cluster far is not one that was brought up here, and its file has no") as no:
        endpoint_of(far)
    assert "Name it by address" in no.value.next_step
    named = load_cluster(write(home / "far.yaml", STATIC + "address: http://127.0.0.1:9000\n"))
    assert endpoint_of(named).address == "http://127.0.0.1:9000"


def test_a_cluster_that_was_brought_up_or_installed_from_here_is_spoken_to_with_its_own_token(home: Path) -> None:
    write(home / ".ray/auth_token", TOKEN)
    write(state_folder("far") / "token", f"{TOKEN}-of-far")
    found = endpoint_of(load_cluster(write(home / "far.yaml", STATIC)))
    assert found == Endpoint("http://127.0.0.1:8265", f"{TOKEN}-of-far")
    # The script that installs it keeps no other token where one is named.
    write(home / "lab", f"{TOKEN}-of-lab")
    (state_folder("far") / "token").unlink()
    found = endpoint_of(load_cluster(write(home / "far.yaml", STATIC + "token_file: ~/lab\n")))
    assert found == Endpoint("http://127.0.0.1:8265", f"{TOKEN}-of-lab")


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_a_token_file_without_one_is_refused_with_its_line(text: str | None, home: Path) -> None:
    write(home / ".ray/auth_token", TOKEN)
    if text is not None:
        write(home / "named", text)
    with pytest.raises(NotAllowed, match=r"far\.yaml:3: token_file: there is no token in ~/named"):
        endpoint_of(cluster(home, "token_file: ~/named", "address: https://ray.example.org"))


@pytest.mark.parametrize(
    "content", [b"two\nlines-of-secret", b"a secret", b"secret-\xff\xfe", "secrét".encode(), b"secret\x00"]
)
def test_what_can_be_no_token_is_refused_and_not_repeated(content: bytes, home: Path) -> None:
    write(home / ".ray/auth_token", content)
    with pytest.raises(NotAllowed, match=r"auth_token holds no token") as refused:
        endpoint_at("http://127.0.0.1:8265")
    assert "secr" not in str(refused.value)


def test_a_cluster_far_away_needs_https_a_tunnel_or_a_decision(home: Path) -> None:
    write(home / ".ray/auth_token", TOKEN)
    far = cluster(home, "address: http://10.0.0.1:8265")
    with pytest.raises(NotAllowed, match=r"travel to 10\.0\.0\.1 over http"):
        endpoint_of(far)
    assert endpoint_of(far, insecure=True).token == TOKEN
