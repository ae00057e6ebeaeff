"""A failure on a rank under real MPI ends all ranks, however long they would go on; one traceback is shown."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from flowcore.launch.local import find_launcher

ROOT = Path(__file__).resolve().parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]
Script = Callable[[str], Path]

PRELUDE = """
import time
import flowcore as fc
from flowcore.world import current
everyone = tuple(range(fc.world_size()))
current().transport.barrier(everyone)
"""
ONE_FAILS = """
if fc.rank() == 1:
    raise ValueError("rank one is unwell")
current().transport.barrier(everyone)
"""
ALL_FAIL = """
raise ValueError("rank one is unwell")
"""
ONE_FAILS_WHILE_OTHERS_COMPUTE = """
if fc.rank() == 1:
    raise ValueError("rank one is unwell")
time.sleep(600)  # longer than the command may take
"""
ONE_LEAVES = """
import sys
if fc.rank() == 1:
    sys.exit(0)
current().transport.barrier(everyone)
"""
ONE_IS_KILLED = """
import os, signal
x = fc.from_local([1.0] * 300_000, sbp=fc.P)
for number in range(10_000):
    if fc.rank() == 1 and number == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    x.to_global(sbp=fc.B)
"""
ONE_IS_KILLED_IN_A_STEP = """
import os, signal
from flowcore.comm.shared import SharedTransport
wait, count = SharedTransport.wait, 0
def dying(self, ranks, digest):
    global count
    count += 1
    if fc.rank() == 1 and count == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    wait(self, ranks, digest)
SharedTransport.wait = dying
weight = fc.nn.Parameter(fc.ones((300, 100)))
opt = fc.optim.Adam([weight], shard_states=weight.placement.axes[0])
x = fc.ones((30, 300)).to_global(sbp=fc.S(0))
@fc.compile
def step():
    loss = (x @ weight).sum()
    loss.backward()
    opt.step()
    opt.zero_grad()
for _ in range(100):
    step()
"""


def is_mapped(name: str) -> bool:
    """Whether a living process (of another program, which runs beside this test) maps a file of /dev/shm."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            if f"/dev/shm/{name}" in maps.read_text():
                return True
    return False


@pytest.mark.parametrize(
    "text",
    [ONE_FAILS, ALL_FAIL, ONE_FAILS_WHILE_OTHERS_COMPUTE],
    ids=["others wait", "all fail alike", "others compute"],
)
def test_an_exception_ends_all_ranks_with_one_traceback(text: str, flowcore: Command, script: Script) -> None:
    ran = flowcore("run", "-n", "3", script(PRELUDE + text))
    assert ran.returncode != 0
    assert ran.stderr.count("Traceback (most recent call last)") == 1, ran.stderr
    assert ran.stderr.count("ValueError: rank one is unwell") == 1, ran.stderr


def test_a_rank_that_leaves_while_others_wait_is_an_error_on_them(flowcore: Command, script: Script) -> None:
    ran = flowcore("run", "-n", "3", script(PRELUDE + ONE_LEAVES))
    assert ran.returncode != 0
    assert "DivergenceError" in ran.stderr and "rank 1 has ended its program" in ran.stderr


@pytest.mark.parametrize("text", [ONE_IS_KILLED, ONE_IS_KILLED_IN_A_STEP], ids=["in a transfer", "in a step"])
def test_a_rank_that_is_killed_while_others_need_it_is_named_and_leaves_nothing(
    text: str, flowcore: Command, script: Script
) -> None:
    before = set(os.listdir("/dev/shm"))
    ran = flowcore("run", "-n", "3", script(PRELUDE + text))
    assert ran.returncode != 0
    assert "CommError: rank 1 failed: its process ended without a word" in ran.stderr, ran.stderr
    assert not {name for name in set(os.listdir("/dev/shm")) - before if not is_mapped(name)}


def test_plain_mpirun_ends_as_well(script: Script, tmp_path: Path) -> None:
    variables = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PYTHONPATH": str(ROOT)}
    command = [find_launcher().path, "-n", "2", sys.executable, str(script(PRELUDE + ONE_FAILS))]
    ran = subprocess.run(command, cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True, timeout=60)
    assert ran.returncode != 0
    assert ran.stderr.count("ValueError: rank one is unwell") == 1, ran.stderr


def test_without_a_launcher_a_script_is_a_world_of_one_rank(script: Script, tmp_path: Path) -> None:
    path = script("import flowcore as fc, sys; print(fc.rank(), fc.world_size(), 'mpi4py.MPI' in sys.modules)")
    ran = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stdout.split() == ["0", "1", "False"], ran.stderr
