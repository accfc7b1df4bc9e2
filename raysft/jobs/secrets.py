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
TEXTS = {
    "a token of Hugging Face": re.compile(r"\bhf_[A-Za-z0-9]{20,}"),
    "a key of AWS": re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a token of GitHub": re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    "an API key": re.compile(r"\bsk-[A-Za-z0-9_-]{16,}"),
    "a token of Slack": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "a key of Google": re.compile(r"\bAIza[0-9A-Za-z_-]{30,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a signed token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{5,}"),
    "a password in an address": re.compile(r"://[^/\s:@]+:[^/\s@]+@"),
}
# Variables of the environment whose values are secrets, by their names.
NAMES = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIAL)", re.IGNORECASE)
SHORTEST = 8  # a value of fewer characters stands in many texts by chance


def is_secret_file(path: str) -> bool:
    """Whether a part of this path is the name of something that holds keys."""
    parts = path.replace(os.sep, "/").lower().split("/")
    return any(fnmatch.fnmatchcase(part, pattern) for part in parts for pattern in FILES)


def secrets_in(text: str, environment: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """(line, what it is) of each secret in a text: what looks like one, or is one of this environment."""
    known = _values(environment)
    for number, line in enumerate(text.splitlines(), start=1):
        for kind, pattern in TEXTS.items():
            if pattern.search(line):
                yield number, kind
        for name, value in known:
            if value in line:
                yield number, f"the value of ${name}"


def _values(environment: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Secrets of the environment. What is a path names one, and is none."""
    named = [(name, value) for name, value in environment.items() if NAMES.search(name)]
    return [(name, value) for name, value in named if len(value) >= SHORTEST and "/" not in value]
