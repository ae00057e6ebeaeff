"""A training step in steady state takes no memory for arrays: every example, on one rank and on several."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.jit.store import is_available
from tests.allocations import requests
from tests.examples import digits
from tests.examples.counted import counting
from tests.examples.steady import HOSTS, SEVERAL, SINGLE, asked

pytestmark = pytest.mark.skipif(not is_available(), reason="without compiled loops numpy takes temporaries of a tile")


CASES = [*((1, *case) for case in (*SINGLE, *SEVERAL)), *((2, *case) for case in HOSTS)]


@pytest.mark.parametrize(("hosts", "name", "ranks", "options"), CASES, ids=lambda part: str(part)[:24])
def test_a_step_in_steady_state_takes_no_memory(hosts: int, name: str, ranks: int, options: dict[str, Any]) -> None:
    if name == "digits":
        digits.example().load_digits("float64")  # imported once, before ranks do so together
    with counting():
        found = fc.launch.run(asked, ranks=ranks, hosts=hosts, args=(name, options))
    for noted, plan in found:
        assert noted.bytes == 0, str(noted)
        assert plan.footprint.others == 0
        # the packing is close to what lives at once
        assert plan.footprint.bound <= plan.footprint.arena <= 1.05 * plan.footprint.bound + 64, plan.explain()


def test_what_an_array_takes_is_counted() -> None:
    with requests() as noted:
        x = np.zeros(3)
        y = x[1:].reshape(2, 1)
        z = x + y
    assert (noted.bytes, len(noted.found), z.shape) == (24 + 48, 2, (2, 3))
