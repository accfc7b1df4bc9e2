"""A page in a real browser: rendered, its console read, and its document as the browser sees it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
]


def open_page(page: Path, folder: Path, width: int = 1300) -> str:
    """The document of `page` after rendering; fails on any console message, skips without a Chromium."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    flags = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}"]
    picture = folder / "page.png"
    shot = _run([*flags, f"--window-size={width},3000", f"--screenshot={picture}", page.as_uri()])
    assert picture.exists() and picture.stat().st_size > 30_000, shot.stderr
    assert "CONSOLE" not in shot.stderr, shot.stderr
    return _run([*flags, "--dump-dom", page.as_uri()]).stdout


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
