"""The benchmark of training steps runs with what is installed, and trains everyone to the same losses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def printed(script: str, *arguments: str) -> str:
    """What a benchmark prints."""
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def test_the_table_has_a_line_for_every_contender() -> None:
    lines = printed("train.py", "--models", "tiny", "--only", "flowcore", "--rounds", "1", "--steps", "5").splitlines()
    assert lines[0].startswith("flowcore")
    assert any(line.startswith("flowcore, 1 x 1") and "1.00" in line for line in lines)


def test_the_profile_names_the_operators_of_a_step() -> None:
    head, *lines = printed("train_profile.py", "tiny", "--steps", "3").splitlines()
    assert head.startswith("tiny: ") and any("contract" in line for line in lines)
