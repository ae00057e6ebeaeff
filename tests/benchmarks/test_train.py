"""The benchmark of training steps runs with what is installed, and trains everyone to the same losses."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def printed(script: str, *arguments: str) -> str:
    """What a benchmark prints."""
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def test_the_table_has_a_line_for_every_contender() -> None:
    options = ["--only", "flowcore", "--rounds", "1", "--steps", "5", "--no-cold-start"]
    text = printed("train.py", "--models", "tiny", *options)
    assert "| flowcore | 1 × 1 |" in text and "| 1.00 |" in text


def test_targets_are_judged_by_the_fastest_rival_on_as_many_cores() -> None:
    sys.path.insert(0, str(BENCHMARKS))
    report = import_module("train_report")
    figures = {"busy": 0.0, "first": 0.0, "peak": 0.0, "share": 0.0}
    times = [("flowcore", 1, 1, 9.0), ("flowcore", 2, 1, 5.0), ("torch", 1, 2, 8.0), ("jax", 1, 2, 5.1)]
    rows = [(name, ranks, threads, {"seconds": t, **figures}) for name, ranks, threads, t in times]
    met = report.Table("mlp", [*rows, ("torch DDP", 2, 1, {"seconds": 8.5, **figures})]).verdict()
    assert [line.rpartition(": ")[2] for line in met] == ["missed", "met"]
    assert "1.02 × jax (target 1.05)" in met[0] and "1.70 × torch DDP (target 1.6)" in met[1]


def test_the_profile_names_the_operators_of_a_step() -> None:
    head, *lines = printed("train_profile.py", "tiny", "--steps", "3").splitlines()
    assert head.startswith("tiny: ") and any("contract" in line for line in lines)
