"""Loops over longer rows give what those over short ones give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.fused import Fused
from flowcore.jit.store import is_available
from flowcore.passes.broaden import broaden
from flowcore.passes.fuse import fuse
from flowcore.pipeline import physical
from flowcore.world import current

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sums": lambda x, y, c: (x * c).sum(axis=(0, 1)),
    "one sum": lambda x, y, c: x.sum(axis=(0, 1)),
    "many": lambda x, y, c: (fc.maximum(x, c), (x * y).sum(axis=(0, 1)), (x - c).sum(axis=(0, 1))),
    "by column": lambda x, y, c: x * c + y,
    "by row too": lambda x, y, c: x * c + y[..., :1],
    "by sample": lambda x, y, c: x * c + y[:, :1],
    "everything": lambda x, y, c: (x * c * y).sum(),
    "two columns": lambda x, y, c: x * (c * 2 + 1) + (y * c).sum(axis=(0, 1)),
    "counted": lambda x, y, c: x * fc.arange(x.shape[2], dtype=x.dtype) + y,
    "softmax": lambda x, y, c: fc.nn.softmax(x * c) + y,
}
SHAPES = [(16, 64, 3), (8, 128, 32), (7, 31, 16), (1, 1, 32), (4, 1024, 1), (2, 512, 600)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_longer_rows_give_what_short_ones_give(shape: tuple[int, ...], dtype: str) -> None:
    draw = np.random.default_rng(0)
    x, y, c = (fc.asarray((draw.normal(size=s) * 9).astype(dtype)) for s in (shape, shape, shape[2:]))

    def all_of_them(*tensors: Any) -> Any:
        return [function(*tensors) for function in FUNCTIONS.values()]

    found, wanted = fc.compile(all_of_them)(x, y, c), all_of_them(x, y, c)
    close = {"float32": (1e-4, 1e-2), "float64": (1e-12, 1e-10)}[dtype]
    for mine, other in zip(found, wanted, strict=True):
        pairs = zip(mine, other, strict=True) if isinstance(mine, tuple) else [(mine, other)]
        for a, b in pairs:
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=close[0], atol=close[1])


@pytest.mark.skipif(not is_available(), reason="no compiler of loops is installed")
@pytest.mark.parametrize(("shape", "rows"), [((64, 64, 4), 64), ((64, 64, 32), 256), ((5, 13, 4), 65)], ids=str)
def test_rows_are_joined_while_there_are_many(shape: tuple[int, ...], rows: int) -> None:
    x, y, c = (fc.asarray(np.ones(s, np.float32)) for s in (shape, shape, shape[2:]))
    logical = fc.compile(FUNCTIONS["many"]).graph(x, y, c)
    nodes = broaden(fuse(physical(logical, current().machine), 1)).nodes
    assert max(node.op.rows for node in nodes if isinstance(node.op, Fused)) == rows
