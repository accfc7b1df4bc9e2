"""What must not leave this machine: files that hold keys, and texts that look like one."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Mapping

# Names of files and folders, whatever their case, that are never sent.
FILES = (
    *(".env", ".env.*", "*.env", ".netrc", ".pypirc", ".npmrc", ".git", ".gitconfig", ".ssh", ".aws", ".azure"),
    *(".config", ".kube", ".docker", ".huggingface", "auth_token", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.kdbx", "credentials", "credentials.*", "secrets.*", "*.tfstate*"),
    *("service-account*.json", "*token.txt", "known_hosts"),
)
# Not \b, for which a_hf_... would be one word.
START = r"(?<![A-Za-z0-9])"
TEXTS = {
    "a token of Hugging Face": re.compile(START + r"hf_[A-Za-z0-9]{20,}"),
    "a key of AWS": re.compile(START + r"(AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])"),
    "a token of GitHub": re.compile(START + r"(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    "a token of GitLab": re.compile(START + r"glpat-[A-Za-z0-9_-]{20,}"),
    # With a digit, since words with dashes between them may begin with sk-, too.
    "an API key": re.compile(START + r"sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}"),
    "a token of Slack": re.compile(START + r"xox[abprs]-[A-Za-z0-9-]{10,}"),
    "a key of Google": re.compile(START + r"AIza[0-9A-Za-z_-]{30,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a signed token": re.compile(START + r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{5,}"),
    "a password in an address": re.compile(r"://[^/\s:@]*:[^/\s@]+@"),
    "a signed address": re.compile(r"[?&](sig|signature|x-amz-signature|x-goog-signature)=[^&\s]{16,}", re.IGNORECASE),
}
# Variables of the environment whose values are secrets, by their names.
NAMES = re.compile(
    r"(TOKEN(?!IZERS)|SECRET|PASSWORD|PASSWD|PASSPHRASE|(API|ACCESS|PRIVATE|STORAGE|ACCOUNT)_?KEY|CREDENTIAL|CONNECTION_STRING)",
    re.IGNORECASE,
)
PATH = re.compile(r"(/|~/|\.{1,2}/|[a-z]+://)", re.IGNORECASE)  # how a value begins that names a place
SHORTEST = 8  # a value of fewer characters stands in many texts by chance


def is_secret_file(path: str) -> bool:
    """Whether a part of this path is the name of something that holds keys."""
    parts = path.replace(os.sep, "/").lower().split("/")
    return any(fnmatch.fnmatchcase(part, pattern) for part in parts for pattern in FILES)


def secrets_in(text: str, environment: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """(line, what it is) of each secret in a text: what looks like one, or is one of this environment."""
    known = list(_values(environment))
    for number, line in enumerate(text.split("\n"), start=1):
        for kind, pattern in TEXTS.items():
            if pattern.search(line):
                yield number, kind
        for name, value in known:
            if value in line:
                yield number, f"the value of ${name}"


def _values(environment: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Secrets of the environment, line by line. What is a path names one, and is none."""
    for name, value in environment.items():
        if NAMES.search(name) and not PATH.match(value):
            yield from ((name, line.strip()) for line in value.splitlines() if len(line.strip()) >= SHORTEST)
