"""The `flowcore` command as a subprocess that fails the test where it does not end."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flowcore.launch.processes import session_members

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0
"""The most a command takes on a busy machine; what waits in a test waits for longer."""
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
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, complaints = process.communicate(timeout=SECONDS)
            finally:
                for pid in session_members(process.pid) if process.poll() is None else []:
                    os.kill(pid, signal.SIGKILL)
        return subprocess.CompletedProcess(command, process.returncode, output, complaints)

    return call


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """Write a Python script; returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / "my script.py"
        path.write_text(text)
        return path

    return write
