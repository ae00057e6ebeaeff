"""An uncaught exception under an MPI launcher ends all ranks, with one traceback and a non-zero exit code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BESIDE = Path(sys.executable).parent / "mpirun"
MPIRUN = str(BESIDE) if BESIDE.exists() else shutil.which("mpirun")
ROOT = Path(__file__).parents[2]

PROGRAM = """
from flowcore.comm.mpi import MpiTransport
transport = MpiTransport(timeout=20)
transport.abort_on_exception()
everyone = tuple(range(transport.size))
transport.barrier(everyone)
{fault}
transport.barrier(everyone)
transport.close()
print("went on")
"""

FAULTS = {
    "one rank raises": ("if transport.rank == 1: raise ValueError('a bad number')", "ValueError: a bad number"),
    "all ranks raise": ("raise ValueError('a bad number')", "ValueError: a bad number"),
    "one rank ends": ("if transport.rank == 1: transport.close(); raise SystemExit(0)", "rank 1 has ended its program"),
    "ranks diverge": ("transport.meet(everyone, transport.rank, lambda: [f'0 op{transport.rank} a.py:1'])",
                      "rank 0 says '0 op0 a.py:1', rank 1 says"),
}  # fmt: skip


@pytest.mark.skipif(MPIRUN is None, reason="no mpirun on this machine")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("ranks", [2, 3])
def test_a_fault_ends_all_ranks_with_one_traceback(fault: str, ranks: int) -> None:
    code, text = FAULTS[fault]
    settings = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PYTHONPATH": str(ROOT)}
    command = [str(MPIRUN), "-n", str(ranks), "--oversubscribe", "--bind-to", "none", sys.executable, "-c"]
    done = subprocess.run(
        [*command, PROGRAM.format(fault=code)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert done.returncode != 0
    assert text in done.stderr
    assert done.stderr.count("Traceback (most recent call last)") == 1, done.stderr
    assert "went on" not in done.stdout
