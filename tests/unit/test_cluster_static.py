"""Files for hosts of one's own: units that systemd takes, a firewall, and a script that installs them for real."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from raysft.cluster.files.static import render
from raysft.config import load_cluster
from raysft.errors import JobFileError

ROOT = Path(__file__).parents[2]
FILE = ROOT / "cluster/static/cluster.yaml"
FAKES = ROOT / "tests/support/static"
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
UNITS = ("ray-head.service", "ray-worker.service")


def rendered(*overrides: str) -> dict[str, str]:
    return render(load_cluster(FILE, overrides))


def command_of(unit: str) -> list[str]:
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    return shlex.split(line)


# --- units


def test_the_head_answers_on_loopback_and_runs_no_work() -> None:
    command = command_of(rendered()["ray-head.service"])
    assert command[:4] == ["/opt/raysft/bin/ray", "start", "--block", "--head"]
    assert {"--dashboard-host=127.0.0.1", "--num-cpus=0", "--node-ip-address=10.20.0.10"} <= set(command)
    assert not [option for option in command if option.startswith("--labels")]


@pytest.mark.parametrize("workers", ["[]", "[10.20.0.10, 10.20.0.11]"])
def test_a_head_that_is_alone_or_named_among_the_workers_works(workers: str) -> None:
    command = command_of(rendered(f"static.workers={workers}")["ray-head.service"])
    assert "--num-cpus=0" not in command
    assert "--labels=raysft.io/pool=lab,raysft.io/market=on-demand" in command


def test_workers_join_the_head() -> None:
    command = command_of(rendered()["ray-worker.service"])
    assert "--address=10.20.0.10:6379" in command
    assert "--address=[fd00::1]:6379" in command_of(rendered('static.head="fd00::1"')["ray-worker.service"])


@pytest.mark.parametrize("unit", UNITS)
def test_units_are_hardened_and_hold_no_secret(unit: str) -> None:
    text = rendered()[unit]
    lines = set(text.splitlines())
    assert {
        "User=raysft",
        "Restart=always",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "LimitNOFILE=65536",
    } <= lines
    assert {"Environment=RAY_AUTH_MODE=token", "Environment=RAY_AUTH_TOKEN_PATH=/etc/raysft/auth_token"} <= lines
    assert "RAY_AUTH_TOKEN=" not in text


@pytest.mark.parametrize("storage", ["/srv/raysft", "/srv/a b%h"])
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_takes_the_units_without_a_word(tmp_path: Path, unit: str, storage: str) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not on this machine")
    text = rendered(f"storage={storage}")[unit]
    # The programs are those of the hosts; here are others.
    here = text.replace("/opt/raysft/bin/ray start", "/bin/true start").replace("/usr/sbin/nft", "/bin/true")
    (tmp_path / unit).write_text(here, encoding="utf-8")
    done = verify(tmp_path / unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    (tmp_path / unit).write_text(here.replace("LimitNOFILE", "LimitNoFile"), encoding="utf-8")
    assert "Unknown key" in verify(tmp_path / unit).stderr


def verify(unit: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)


# --- firewall


def test_the_firewall_lets_the_named_hosts_in_and_nobody_else() -> None:
    text = rendered("static.workers=['10.20.0.11', 'fd00::7', gpu-3.lab]")["firewall.nft"]
    assert re.findall(r"elements = \{ (.*) \}", text) == ["10.20.0.10, 10.20.0.11, gpu-3.lab", "fd00::7"]
    (chain,) = re.findall(r"chain input \{\n(.*?)\n  \}", text, re.DOTALL)
    assert [line.strip() for line in chain.splitlines()] == [
        "type filter hook input priority filter; policy accept;",
        'iif "lo" accept',
        "ct state established,related accept",
        "ip saddr @hosts4 accept",
        "ip6 saddr @hosts6 accept",
        "tcp dport 1024-65535 drop",
        "udp dport 1024-65535 drop",
    ]
    assert text.count("{") == text.count("}")
    # Loaded again it replaces its own table and no other rule of the host.
    assert re.findall(r"^(?:delete |flush )?(?:table|ruleset).*$", text, re.MULTILINE) == [
        "table inet raysft",
        "delete table inet raysft",
        "table inet raysft {",
    ]


def test_nftables_takes_the_firewall(tmp_path: Path) -> None:
    if not shutil.which("nft"):
        pytest.skip("nft is not on this machine")
    (tmp_path / "firewall.nft").write_text(rendered()["firewall.nft"], encoding="utf-8")
    command = ["unshare", "--net", "nft", "--check", "--file", str(tmp_path / "firewall.nft")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- install.sh


@pytest.mark.parametrize(
    "overrides", [[], ["static.workers=[]"], ["static.ssh.key=~/keys/lab key", "token_file=/a b/token", "storage=/a b"]]
)
def test_the_script_has_no_fault_that_is_found_without_running_it(tmp_path: Path, overrides: list[str]) -> None:
    script = tmp_path / "install.sh"
    script.write_text(rendered(*overrides)["install.sh"], encoding="utf-8")
    for command in (["bash", "-n"], [str(SHELLCHECK), "--severity=style"]):
        done = subprocess.run([*command, str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("home", [None, "of raysft"])
def test_each_cluster_has_a_token_of_its_own_where_jobs_look_for_it(tmp_path: Path, home: str | None) -> None:
    """The lines of the script that make it, run; one token for all clusters would open one to who has another."""
    script = rendered()["install.sh"]
    (token,) = [line for line in script.splitlines() if line.startswith("token=")]
    makes = script[script.index('if [ ! -s "$token" ]') : script.index("# What each host runs")]
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    if home is not None:
        environment["RAYSFT_HOME"] = str(tmp_path / home)
    command = ["bash", "-euc", f"{token}\n{makes}"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=10)
    made = tmp_path / (home or ".raysft") / "clusters/lab/token"
    assert re.fullmatch(r"[0-9a-f]{64}", made.read_text(encoding="utf-8"))
    assert stat.S_IMODE(made.stat().st_mode) == 0o600 and stat.S_IMODE(made.parent.stat().st_mode) == 0o700


def test_the_fakes_have_no_fault_either() -> None:
    fakes = sorted(FAKES.iterdir())
    assert len(fakes) == 3
    done = subprocess.run([SHELLCHECK, *fakes], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


class Lab:
    """Hosts that are played here: each has a copy of /etc of its own, into which the script installs for real."""

    def __init__(self, folder: Path) -> None:
        self.hosts, self.files, self.storage = folder / "hosts", folder / "files", folder / "sto rage"
        for each in (self.hosts, self.files, self.storage):
            each.mkdir()
        self.token = folder / "secrets/to ken"
        self.render()

    def render(self, *overrides: str) -> None:
        for name, text in rendered(f"storage={self.storage}", f"token_file={self.token}", *overrides).items():
            (self.files / name).write_text(text, encoding="utf-8")

    def install(self) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{FAKES}:{os.environ['PATH']}", "FAKE_LAB": str(self.hosts)}
        command = ["bash", str(self.files / "install.sh")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    def etc(self, host: str, path: str) -> Path:
        return self.hosts / host / "etc" / path

    def asked(self, host: str) -> list[str]:
        path = self.hosts / f"{host}.systemctl"
        found = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return found


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    mount = "mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc"
    overlay = f"mount -t tmpfs tmpfs /mnt && mkdir /mnt/upper /mnt/work && {mount}"
    if subprocess.run(["unshare", "--mount", "bash", "-c", overlay], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets no process have an /etc of its own")
    return Lab(tmp_path)


def test_installing_twice_changes_what_is_not_as_it_should_be(lab: Lab) -> None:
    done = lab.install()
    assert done.returncode == 0, done.stderr
    started = ["daemon-reload", "enable {}", "restart {}"]
    assert lab.asked("10.20.0.10") == [each.format("ray-head.service") for each in started]
    for worker in ("10.20.0.11", "10.20.0.12"):
        assert lab.asked(worker) == [each.format("ray-worker.service") for each in started]
        assert lab.etc(worker, "systemd/system/ray-worker.service").read_text(encoding="utf-8") == (
            lab.files / "ray-worker.service"
        ).read_text(encoding="utf-8")
    token = lab.etc("10.20.0.10", "raysft/auth_token")
    assert re.fullmatch(r"[0-9a-f]{64}", token.read_text(encoding="utf-8"))
    assert stat.S_IMODE(token.stat().st_mode) == 0o400
    assert stat.S_IMODE(lab.token.stat().st_mode) == 0o600
    (user,) = [
        line.split(":")
        for line in lab.etc("10.20.0.10", "passwd").read_text(encoding="utf-8").splitlines()
        if line.startswith("raysft:")
    ]
    assert token.stat().st_uid == int(user[2]) and user[6] == "/usr/sbin/nologin"

    again = lab.install()
    assert again.returncode == 0 and again.stdout.count("nothing to change") == 3, again.stdout + again.stderr
    assert lab.asked("10.20.0.10") == ["enable --now ray-head.service"]  # no job is disturbed

    lab.token.chmod(0o600)
    lab.token.write_text("another", encoding="utf-8")
    assert lab.install().returncode == 0
    assert "restart ray-worker.service" in lab.asked("10.20.0.11")
    assert token.read_text(encoding="utf-8") == "another"


def has_user(lab: Lab, host: str, name: str, number: int) -> None:
    """A host has a user that the others have not."""
    path = lab.etc(host, "passwd")
    path.parent.mkdir(parents=True)
    line = f"{name}:x:{number}:{number}::/:/usr/sbin/nologin\n"
    path.write_text(Path("/etc/passwd").read_text(encoding="utf-8") + line, encoding="utf-8")


def first_free() -> int:
    """The number that a new user of a system gets on this machine."""
    return next(number for number in range(999, 100, -1) if number not in {each.pw_uid for each in pwd.getpwall()})


def test_what_one_host_writes_to_the_storage_belongs_to_the_same_user_on_all(lab: Lab) -> None:
    has_user(lab, "10.20.0.10", "somebody", first_free())  # so that the head's user gets another number
    done = lab.install()
    assert done.returncode == 0, done.stderr
    lines = [lab.etc(f"10.20.0.{host}", "passwd").read_text(encoding="utf-8") for host in (10, 11, 12)]
    numbers = [re.findall(r"^raysft:x:(\d+):", text, re.MULTILINE) for text in lines]
    assert numbers[0] == numbers[1] == numbers[2] != [str(first_free())]
    assert lab.install().stdout.count("nothing to change") == 3


def test_a_host_whose_user_has_another_number_is_named(lab: Lab) -> None:
    has_user(lab, "10.20.0.11", "raysft", 120)
    done = lab.install()
    assert done.returncode == 3 and lab.asked("10.20.0.11") == []
    assert f"the user raysft has the id 120 there and {first_free()} on the head: give it one" in done.stderr


def test_the_token_is_in_no_argument(lab: Lab) -> None:
    assert lab.install().returncode == 0
    token = lab.token.read_text(encoding="utf-8")
    for host in ("10.20.0.10", "10.20.0.11", "10.20.0.12"):
        arguments = (lab.hosts / f"{host}.arguments").read_text(encoding="utf-8")
        assert token not in arguments and f"admin@{host}" in arguments


def test_a_host_that_was_the_head_becomes_a_worker(lab: Lab) -> None:
    assert lab.install().returncode == 0
    lab.asked("10.20.0.10")
    lab.render("static.head=10.20.0.11", "static.workers=[10.20.0.10]")
    assert lab.install().returncode == 0
    assert lab.asked("10.20.0.10") == [
        "disable --now ray-head.service",
        "daemon-reload",
        "enable ray-worker.service",
        "restart ray-worker.service",
    ]


def test_a_host_that_is_not_ready_is_named_and_the_rest_is_left(lab: Lab) -> None:
    (lab.hosts / "10.20.0.11.bare").touch()
    done = lab.install()
    assert done.returncode == 3
    assert "10.20.0.11: ray-worker.service" in done.stdout
    assert "no /opt/raysft/bin/ray: install raysft there first" in done.stderr
    assert lab.asked("10.20.0.12") == []
    lab.storage.rmdir()
    assert "mount the storage of the cluster there first" in lab.install().stderr


# --- bad cluster files


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("static.head=a b", "static.head: must be a host name or an address; found 'a b'"),
        ("static.workers=[x, '-oProxyCommand=x']", "static.workers.1: must be a host name or an address"),
        ("static.head='fd00::x'", "static.head: must be a host name or an address"),
        ("pools=[{name: a, cpus: 1}, {name: b, cpus: 1}]", "pools: one at most, since nothing says"),
    ],
)
def test_a_cluster_file_that_cannot_be_rendered_says_where(override: str, expected: str) -> None:
    with pytest.raises(JobFileError) as caught:
        rendered(override)
    assert expected in str(caught.value) and str(caught.value).startswith("--set")
