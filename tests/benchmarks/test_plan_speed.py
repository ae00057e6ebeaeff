"""The benchmark of planning runs, and its plans do not depend on the order of sets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "plan_speed.py"


def printed(seed: int) -> str:
    """What the benchmark prints in a process that orders sets by `seed`."""
    command = [sys.executable, str(SCRIPT), "--only", "neural ode", "--mesh", "2x2"]
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=environment).stdout


def test_two_processes_find_the_same_plan() -> None:
    first, second = (re.sub(r"\d+ ms", "", printed(seed)) for seed in (1, 2))
    assert first.startswith("neural ode") and first == second
