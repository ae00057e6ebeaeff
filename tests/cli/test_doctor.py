"""`flowcore doctor`, and the command's own help."""

import subprocess
from collections.abc import Callable
from pathlib import Path

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_the_doctor_reports_the_machine_and_lets_two_ranks_meet(flowcore: Command) -> None:
    ran = flowcore("doctor")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = dict(line.split(maxsplit=1) for line in ran.stdout.splitlines() if not line.startswith("MPI library"))
    assert {"python", "numpy", "mpi4py", "cores", "launcher", "/dev/shm"} <= set(report)
    assert report["2"].split()[:2] == ["ranks", "met"]


def test_the_doctor_says_what_is_wrong_and_exits_1(flowcore: Command, tmp_path: Path) -> None:
    liar = tmp_path / "mpirun"
    liar.write_text('#!/bin/sh\n[ "$1" = --version ] && echo HYDRA && exit 0\nwhile [ "$1" != -c ]; do shift; done\n')
    liar.chmod(0o755)
    ran = flowcore("doctor", "--mpirun", liar)
    assert ran.returncode == 1
    assert "the ranks did not meet" in ran.stdout


def test_help_lists_the_commands(flowcore: Command) -> None:
    ran = flowcore("--help")
    assert ran.returncode == 0
    assert "run" in ran.stdout and "doctor" in ran.stdout
