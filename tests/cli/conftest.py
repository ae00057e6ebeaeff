"""The `flowcore` command as a subprocess with a time limit."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0
Command = Callable[..., subprocess.CompletedProcess[str]]


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without its settings of threads; the checkout importable from anywhere."""
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    return inherited | {"PYTHONPATH": str(ROOT)} | variables


@pytest.fixture
def flowcore(tmp_path: Path) -> Command:
    """Run `flowcore ARGUMENTS` in an empty folder; variables are added to its environment."""

    def call(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flowcore.launch", *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment(**variables), capture_output=True, text=True, timeout=SECONDS
        )

    return call


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """Write a Python script; returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / "my script.py"
        path.write_text(text)
        return path

    return write
