"""What looks like a secret is found wherever it stands; what people write into job files is not taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.cluster.secrets import TEXTS, is_secret_file, secrets_in
from raysft.errors import NotAllowed
from raysft.jobs.package import refuse_secrets

ROOT = Path(__file__).parents[2]
# Put together here, so that this file holds none itself.
SAMPLES = {
    "a token of Hugging Face": "hf_" + "aB3" * 11,
    "a key of AWS": "AKIA" + "IOSFODNN7EXAMPLE",
    "a token of GitHub": "ghp_" + "a1B2" * 9,
    "a token of GitLab": "glpat-" + "a1B2" * 5,
    "an API key": "sk-proj-" + "a1B2" * 12,
    "a token of Slack": "xoxb-" + "123456789012-abcdef",
    "a key of Google": "AIza" + "Sy0123456789" * 3,
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "a signed token": "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmN",
    "a password in an address": "s3://user:" + "hunter2@bucket/x",
    "a signed address": "https://host/x.csv?x=1&X-Amz-Signature=" + "0123456789abcdef" * 4,
}
ORDINARY = st.text(st.characters(codec="utf-8"), max_size=60).filter(lambda text: not list(secrets_in(text, {})))


def test_every_kind_has_a_sample() -> None:
    assert set(SAMPLES) == set(TEXTS)


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize(
    "around", ["{}", "base: {}", "  x: '{}' # y", '{{"a": "{}"}}', "a_{}.b", "--set=a={}\r", "=({})"]
)
def test_each_kind_is_found_wherever_it_stands(kind: str, around: str) -> None:
    text = f"name: x\n\n{around.format(SAMPLES[kind])}\nlast: 1\n"
    assert (3, kind) in list(secrets_in(text, {}))


@given(ORDINARY, ORDINARY, st.sampled_from(sorted(SAMPLES.values())), st.sampled_from(["file", "--set", "arguments"]))
def test_a_planted_secret_is_refused_with_its_line(before: str, after: str, secret: str, where: str) -> None:
    texts = {"file": "name: x\n", "--set": "train.epochs=3", "arguments": "--text\nhello"}
    texts[where] = f"{before}\n{texts[where]}\nbase: {secret}\n{after}"
    line = texts[where].split("\n").index(f"base: {secret}") + 1
    with pytest.raises(NotAllowed, match="would be sent to the cluster") as refused:
        refuse_secrets(texts, {})
    assert refused.value.message.startswith(f"{where}:{line}: ")
    assert secret not in str(refused.value)


@given(
    ORDINARY, st.from_regex(r"[A-Za-z0-9+=][A-Za-z0-9/+=]{9,40}", fullmatch=True).filter(lambda text: "://" not in text)
)
def test_the_value_of_a_secret_variable_is_refused_and_not_repeated(before: str, value: str) -> None:
    texts = {"job.yaml": f"{before}\nname: a{value}b"}
    refused = []
    for name in (
        "HF_TOKEN",
        "aws_secret_access_key",
        "WANDB_API_KEY",
        "DB_PASSWORD",
        "AZURE_STORAGE_KEY",
        "X_PASSPHRASE",
    ):
        with pytest.raises(NotAllowed) as found:
            refuse_secrets(texts, {name: value})
        refused.append(found.value.message)
    if not list(secrets_in(value, {})) and value not in before:
        assert "$HF_TOKEN" in refused[0] and all(value not in message for message in refused)


def test_a_variable_of_several_lines_is_looked_for_line_by_line() -> None:
    environment = {"DEPLOY_PRIVATE_KEY": "first line of it\nMIIEowIBAAKCAQEA\nend\n"}
    assert list(secrets_in("x\nbase: MIIEowIBAAKCAQEA", environment)) == [(2, "the value of $DEPLOY_PRIVATE_KEY")]
    assert list(secrets_in("the end", environment)) == []  # too short to be told from words


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN_PATH", "/home/me/corpora"),  # where one lies
        ("AWS_SECRETS_FILE", "~/corpora/x"),
        ("TOKEN_FILE", "../corpora"),
        ("TOKEN_URL", "https://corpora.example"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("HOME", "corpora1"),
        ("API_KEY", ""),
        ("SECRET_SANTA", "corpora"),
    ],
)
def test_variables_that_hold_none_refuse_nothing(name: str, value: str) -> None:
    text = f"data: {{train: {value}/x.csv}}\ntrain: false\ncorpora1"
    assert list(secrets_in(text, {name: value})) == []


ORDINARY_FILES = sorted(
    path
    for folder in ("docs", "jobs", "examples", "cluster", ".")
    for pattern in ("*.md", "*.yaml")
    for path in (ROOT / folder).glob(pattern)
)


def test_our_own_job_files_and_texts_hold_none() -> None:
    assert len(ORDINARY_FILES) >= 8
    for path in ORDINARY_FILES:
        assert list(secrets_in(path.read_text(encoding="utf-8"), {})) == [], path


@pytest.mark.parametrize(
    "text",
    [
        "model: sentence-transformers/all-MiniLM-L6-v2",
        "name: sk-learn-classification-baseline-without-numbers",
        "train: s3://bucket/a:b/c@d.csv",
        "train: gs://bucket/rows@2.csv",
        "train: https://example.org/x.csv?split=train&sig=short",
        "a key of AWS begins with AKIA, one of Hugging Face with hf_",
        "name: half_0123456789012345678901234567",
        "base: chf_0123456789012345678901234567",
        "write me at a:b@c.org",
        "sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "-----BEGIN CERTIFICATE-----",
    ],
)
def test_what_people_write_is_not_taken_for_one(text: str) -> None:
    assert list(secrets_in(text, {})) == []


@pytest.mark.parametrize(
    "path",
    [
        *(".env", ".env.local", "prod.env", "a/.git/config", ".ssh/config", ".aws/credentials", "x/.netrc", "id_rsa"),
        *("keys/id_ed25519.pub", "server.PEM", "tls.key", "a.p12", "Credentials", "credentials.json", "secrets.yaml"),
        *(".kube/config", ".docker/config.json", "terraform.tfstate.backup", "service-account-prod.json", "auth_token"),
        *(".huggingface/token", "my_token.txt", ".config/gcloud/x.db", "a b/.NPMRC", "known_hosts"),
    ],
)
def test_names_of_files_that_hold_keys_are_known(path: str) -> None:
    assert is_secret_file(path)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "rows.csv",
            "jobs/x.yaml",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "a/vocab.txt",
        ),
        *(
            "model.safetensors",
            "environment.csv",
            "keys.csv",
            "my.envelope.csv",
            "git/rows.csv",
            "config.json",
            "x.key.csv",
        ),
    ],
)
def test_names_of_data_and_models_are_not_taken_for_them(path: str) -> None:
    assert not is_secret_file(path)
