"""Ranks under MPI that pretend to live on two hosts: changes of layout go by the hosts, with right values."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]
Script = Callable[[str], Path]

PROGRAM = """
from itertools import product
import numpy as np
import flowcore as fc
from flowcore.world import current

ranks, long = np.arange(fc.world_size()), 0
line, grid = fc.Placement(ranks), fc.Placement(ranks.reshape(-1, 2)[:, ::-1])
cases = [(line, a, b) for a, b in product((fc.B, fc.P, fc.S(0), fc.S(1)), repeat=2)]
for pair in "P,P/B,B P,S0/S1,B S0,S1/B,B B,S0/S0,S0 S1,P/S0,S1 B,P/P,S0 S1,B/B,S1".split():
    cases.append((grid, *pair.split("/")))
x = np.arange(600 * 256, dtype=np.float32).reshape(600, 256) % 11
for mesh, a, b in cases:
    value = fc.asarray(x, placement=mesh, sbp=a)
    step = fc.compile(lambda value: value.to_global(sbp=b))
    long += len(step.plan(value).transfers) > 1
    assert np.array_equal(step(value).numpy(), x), (a, b)
    assert np.array_equal(value.to_global(sbp=b).numpy(), x), (a, b)
if fc.rank() == 0:
    print(f"hosts {current().machine.hosts}, {long} of {len(cases)} in several legs")
"""


@pytest.mark.parametrize("transport", ["shared", "mpi"], ids=["through shared memory", "through messages"])
def test_paths_are_right_under_mpi(transport: str, flowcore: Command, script: Script, tmp_path: Path) -> None:
    settings = {"FLOWCORE_HOSTS": "2", "FLOWCORE_TRANSPORT": transport, "XDG_CACHE_HOME": str(tmp_path)}
    told = flowcore("run", "-n", 4, script(PROGRAM), **settings)
    assert told.returncode == 0, told.stderr
    if transport == "shared":
        assert "hosts (0, 0, 1, 1)" in told.stdout
        assert ", 0 of" not in told.stdout
    else:
        assert "hosts ()" in told.stdout  # plain MPI knows hosts by their names, and this is one
