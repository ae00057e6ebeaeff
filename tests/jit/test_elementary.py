"""The elementary functions of generated loops against numpy's in extended precision, and at special values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from flowcore.jit.store import is_available

pytestmark = pytest.mark.skipif(not is_available(), reason="numba is not installed")
DOMAINS = {
    "exp": ((-87.0, 88.0), (-708.0, 709.0)), "expm1": ((-20.0, 80.0), (-30.0, 700.0)), "log": ((0.5, 2.0),) * 2,
    "log1p": ((-0.99, 2.0),) * 2, "tanh": ((-10.0, 10.0),) * 2, "erf": ((-5.0, 5.0),) * 2,
    "sqrt": ((0.0, 9.0),) * 2, "sin": ((-7.0, 7.0),) * 2, "cos": ((-7.0, 7.0),) * 2,
}  # fmt: skip
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e-310, 1.0, -1.0, 89.0, 710.0, -104.0, -746.0, 1e30]
ULPS = 6.0
ERF = np.vectorize(math.erf, otypes=[np.float64])


def computed(name: str, x: Any) -> Any:
    """The function on every element, in a compiled loop."""
    import numba

    from flowcore.jit import elementary
    from flowcore.jit.lanes import OPTIONS

    function = getattr(elementary, f"{name}_f{x.itemsize}")

    @numba.njit(**OPTIONS)
    def loop(x, y):  # type: ignore[no-untyped-def]  # numba's types
        for place in range(x.shape[0]):
            y[place] = function(x[place])

    y = np.empty_like(x)
    loop(x, y)
    return y


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", DOMAINS)
def test_elementary_functions_are_off_by_a_few_units_in_the_last_place(name: str, dtype: str) -> None:
    draw = np.random.default_rng(0)
    low, high = DOMAINS[name][dtype == "float64"]
    small = 10.0 ** draw.uniform(-30, 0, 20000)
    x = np.concatenate([draw.uniform(low, high, 50000), small, SPECIAL]).astype(dtype)
    reference: Any = ERF if name == "erf" else getattr(np, name)
    with np.errstate(all="ignore"):
        wanted = reference(x.astype(np.longdouble if name != "erf" else np.float64))
        rounded, found = wanted.astype(dtype), computed(name, x)
        finite = np.isfinite(rounded)
        off = np.abs(found - wanted)[finite] / np.spacing(np.abs(rounded[finite]))
    assert off.max() < ULPS, x[finite][off.argmax()]
    np.testing.assert_array_equal(found[~finite], rounded[~finite])
    zeros = x == 0
    np.testing.assert_array_equal(np.signbit(found[zeros]), np.signbit(rounded[zeros]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_far_out_nothing_is_left_of_the_difference_to_one(name: str, dtype: str) -> None:
    far = np.array([9.02, 10.0, 19.1, 20.0, 88.0, 1e30, np.inf], dtype)
    far = far[2:] if (name, dtype) == ("tanh", "float64") else far
    found = [computed(name, far), -computed(name, -far)]
    assert (np.array(found) == 1).all(), found
