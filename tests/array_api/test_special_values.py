"""The special values that the standard names, to the sign of zeros, on one rank and split over three."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import flowcore as fc

INF, NAN, PI = math.inf, math.nan, math.pi
HALF = PI / 2
UNARY: dict[str, list[tuple[float, float]]] = {
    "abs": [(-0.0, 0.0), (-INF, INF), (NAN, NAN)],
    "acos": [(2, NAN), (-2, NAN), (1, 0.0), (NAN, NAN)],
    "acosh": [(0.5, NAN), (1, 0.0), (INF, INF)],
    "asin": [(2, NAN), (0.0, 0.0), (-0.0, -0.0)],
    "asinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF)],
    "atan": [(0.0, 0.0), (-0.0, -0.0), (INF, HALF), (-INF, -HALF)],
    "atanh": [(2, NAN), (1, INF), (-1, -INF), (0.0, 0.0), (-0.0, -0.0)],
    "ceil": [(INF, INF), (-INF, -INF), (0.0, 0.0), (-0.0, -0.0), (-0.5, -0.0), (NAN, NAN)],
    "cos": [(0.0, 1), (-0.0, 1), (INF, NAN), (-INF, NAN)],
    "cosh": [(0.0, 1), (INF, INF), (-INF, INF)],
    "exp": [(0.0, 1), (-0.0, 1), (INF, INF), (-INF, 0.0), (NAN, NAN)],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -1)],
    "floor": [(INF, INF), (-INF, -INF), (0.0, 0.0), (-0.0, -0.0), (0.5, 0.0)],
    "log": [(-1, NAN), (0.0, -INF), (-0.0, -INF), (1, 0.0), (INF, INF)],
    "log10": [(-1, NAN), (0.0, -INF), (1, 0.0), (INF, INF), (1000, 3)],
    "log1p": [(-2, NAN), (-1, -INF), (0.0, 0.0), (-0.0, -0.0), (INF, INF)],
    "log2": [(-1, NAN), (0.0, -INF), (1, 0.0), (INF, INF), (1024, 10)],
    "reciprocal": [(INF, 0.0), (-INF, -0.0), (0.0, INF), (-0.0, -INF)],
    "round": [(INF, INF), (0.0, 0.0), (-0.0, -0.0), (0.5, 0.0), (-0.5, -0.0), (1.5, 2), (2.5, 2)],
    "sign": [(-3, -1), (0.0, 0.0), (-0.0, 0.0), (INF, 1), (NAN, NAN)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN)],
    "sinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF)],
    "sqrt": [(-1, NAN), (0.0, 0.0), (-0.0, -0.0), (INF, INF)],
    "square": [(-0.0, 0.0), (-INF, INF)],
    "tan": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1)],
    "trunc": [(INF, INF), (-INF, -INF), (0.0, 0.0), (-0.0, -0.0), (-0.5, -0.0), (1.9, 1)],
    "negative": [(0.0, -0.0), (INF, -INF)],
}
BINARY: dict[str, list[tuple[float, float, float]]] = {
    "add": [(INF, -INF, NAN), (INF, 1, INF), (-0.0, -0.0, -0.0), (-0.0, 0.0, 0.0), (NAN, 1, NAN), (1, -1, 0.0)],
    "subtract": [(INF, INF, NAN), (-0.0, 0.0, -0.0), (0.0, 0.0, 0.0)],
    "multiply": [(INF, 0.0, NAN), (INF, -1, -INF), (-0.0, 1, -0.0), (-0.0, -1, 0.0)],
    "divide": [
        (INF, INF, NAN), (0.0, 0.0, NAN), (1, 0.0, INF), (1, -0.0, -INF), (1, INF, 0.0), (1, -INF, -0.0),
        (0.0, -1, -0.0),
    ],
    "floor_divide": [
        (INF, INF, NAN), (0.0, 0.0, NAN), (1, 0.0, INF), (-1, 0.0, -INF), (INF, 1, INF), (INF, -1, -INF),
        (-INF, 1, -INF), (-INF, -1, INF), (1, INF, 0.0), (1, -INF, -0.0), (-1, INF, -0.0), (-1, -INF, 0.0),
        (0.0, 1, 0.0), (0.0, -1, -0.0), (-7, 2, -4), (NAN, 1, NAN),
    ],
    "remainder": [
        (INF, 1, NAN), (1, 0.0, NAN), (0.0, 1, 0.0), (-0.0, 1, 0.0), (0.0, -1, -0.0), (-0.0, -1, -0.0), (1, INF, 1),
        (-1, INF, INF), (1, -INF, -INF), (-1, -INF, -1), (-7, 2, 1), (7, -2, -1),
    ],
    "pow": [
        (NAN, 0.0, 1), (3, -0.0, 1), (2, NAN, NAN), (NAN, 1, NAN), (2, INF, INF), (2, -INF, 0.0), (-1, INF, 1),
        (0.5, INF, 0.0), (0.5, -INF, INF), (INF, 1, INF), (INF, -1, 0.0), (-INF, 3, -INF), (-INF, 2, INF),
        (-INF, 0.5, INF), (-INF, -3, -0.0), (-INF, -2, 0.0), (0.0, 1, 0.0), (0.0, -1, INF), (-0.0, 3, -0.0),
        (-0.0, 2, 0.0), (-0.0, 0.5, 0.0), (-0.0, -3, -INF), (-0.0, -2, INF), (-2, 0.5, NAN), (1, NAN, 1),
    ],
    "atan2": [
        (1, 0.0, HALF), (-1, -0.0, -HALF), (0.0, 1, 0.0), (0.0, 0.0, 0.0), (0.0, -0.0, PI), (0.0, -1, PI),
        (-0.0, 1, -0.0), (-0.0, 0.0, -0.0), (-0.0, -0.0, -PI), (1, INF, 0.0), (1, -INF, PI), (-1, INF, -0.0),
        (INF, 1, HALF), (-INF, 1, -HALF), (INF, INF, PI / 4), (INF, -INF, 3 * PI / 4), (-INF, -INF, -3 * PI / 4),
    ],
    "hypot": [(INF, NAN, INF), (NAN, -INF, INF), (NAN, 1, NAN), (-0.0, 0.0, 0.0)],
    "logaddexp": [(NAN, 1, NAN), (INF, 1, INF), (-INF, -INF, -INF), (1, -INF, 1)],
    "maximum": [(NAN, 1, NAN), (1, NAN, NAN), (INF, 1, INF)],
    "minimum": [(NAN, 1, NAN), (-INF, 1, -INF)],
    "copysign": [(1, -0.0, -1), (-1, 0.0, 1), (0.0, -1, -0.0), (INF, -1, -INF)],
    "nextafter": [(1, 1, 1), (NAN, 1, NAN), (1, NAN, NAN)],
}  # fmt: skip
COMPLEX: dict[str, list[tuple[complex, complex]]] = {
    "expm1": [
        (complex(0, 0), complex(0, 0)), (complex(-0.0, 0), complex(-0.0, 0)), (complex(INF, 0), complex(INF, 0)),
        (complex(-INF, INF), complex(-1, 0)), (complex(INF, INF), complex(INF, NAN)),
        (complex(-INF, NAN), complex(-1, 0)), (complex(INF, NAN), complex(INF, NAN)),
        (complex(NAN, 0), complex(NAN, 0)), (complex(1, INF), complex(NAN, NAN)), (complex(-INF, 2), complex(-1, 0)),
    ],
    "tanh": [
        (complex(INF, 1), complex(1, 0)), (complex(INF, 2), complex(1, 0)), (complex(INF, NAN), complex(1, 0)),
        (complex(-INF, 2), complex(-1, 0)), (complex(NAN, 0), complex(NAN, 0)),
    ],
    "sign": [(complex(-0.0, 0), complex(0, 0)), (complex(3, 4), complex(0.6, 0.8))],
    "sqrt": [(complex(0, 0), complex(0, 0)), (complex(1, INF), complex(INF, INF)), (complex(-INF, 1), complex(0, INF))],
    "exp": [(complex(-INF, 1), complex(0, 0)), (complex(INF, NAN), complex(INF, NAN)), (complex(0, 0), complex(1, 0))],
}  # fmt: skip


def same(found: Any, expected: Any) -> None:
    """Equal to rounding, nan where nan, and zeros of one sign."""
    np.testing.assert_allclose(found, expected, rtol=3e-7 if found.dtype.itemsize < 8 else 1e-14)
    zero = (expected == 0) & (found == 0)
    np.testing.assert_array_equal(np.signbit(found[zero]), np.signbit(expected[zero]))


def check() -> None:
    """All rows, on all ranks of the world."""
    with fc.use(fc.Placement(fc.world_size()), fc.S(0)):
        for dtype in ("float32", "float64"):
            for name, pairs in UNARY.items():
                given, expected = (np.array(column, dtype) for column in zip(*pairs, strict=True))
                same(getattr(fc, name)(fc.asarray(given)).numpy(), expected)
            for name, triples in BINARY.items():
                first, second, expected = (np.array(column, dtype) for column in zip(*triples, strict=True))
                same(getattr(fc, name)(fc.asarray(first), fc.asarray(second)).numpy(), expected)
                for x, y, wanted in triples:
                    same(getattr(fc, name)(fc.full(3, x, dtype=dtype), y).numpy(), np.full(3, wanted, dtype))
        for name, couples in COMPLEX.items():
            given, expected = (np.array(column) for column in zip(*couples, strict=True))
            found = getattr(fc, name)(fc.asarray(given)).numpy()
            np.testing.assert_allclose(found.real, expected.real, rtol=1e-14)
            np.testing.assert_allclose(np.abs(found.imag), np.abs(expected.imag), rtol=1e-14)


@pytest.mark.parametrize("ranks", [1, 3])
def test_special_values_are_those_of_the_standard(ranks: int) -> None:
    fc.launch.run(check, ranks=ranks, transport="threads")


def test_special_values_pass_through_fused_loops() -> None:
    table: dict[str, list[Any]] = {**UNARY, **BINARY}
    columns = [
        [np.resize(np.array(column, np.float32), 4096) for column in zip(*rows, strict=True)] for rows in table.values()
    ]
    functions = [getattr(fc, name) for name in table]

    def both_ways(given: list[Any]) -> list[Any]:
        return [fc.negative(fc.negative(f(*operands))) for f, operands in zip(functions, given, strict=True)]

    found = fc.compile(both_ways)([operands for *operands, _ in columns])
    for result, (*_, expected) in zip(found, columns, strict=True):
        same(result.numpy(), expected)


def test_a_partial_value_keeps_the_sign_of_zero() -> None:
    def body() -> list[bool]:
        x = fc.asarray(np.array([-0.0, 0.0, 1.0]), placement=fc.Placement(2), sbp=fc.P)
        return [*fc.signbit(x).numpy().tolist(), *fc.signbit(fc.full(1, -0.0, sbp=fc.P)).numpy().tolist()]

    assert fc.launch.run(body, ranks=2, transport="threads") == [[True, False, False, True]] * 2
