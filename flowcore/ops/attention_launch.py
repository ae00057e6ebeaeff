"""Attention as a call of a compiled kernel: its source, and the numbers that say where each head lies.

Heads are counted by two numbers, an outer and an inner one, so that an operand can be shared along either. What has no
such form, has a mask or another dtype, is left to numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from struct import pack, unpack

from flowcore.jit.launch import Kernel, Launch
from flowcore.jit.source import NAMES
from flowcore.jit.store import is_available
from flowcore.op import Type
from flowcore.placement.layout import Shape

SCORES = 1 << 18
"""Bytes of scores that a kernel holds at once (at least those of `LEAST` queries)."""
LEAST, MOST = 8, 32
DTYPES = ("f4", "f8")
WIDTH = 64
"""Keys are counted up to a whole number of so many in scratch, as `flowcore.jit.attention` does."""
SIZES, STEPS = 10, 3
"""Numbers of a kernel, and those of each operand and result, that come together."""
ARRAYS = {"forward": ("q", "k", "v", "y"), "backward": ("q", "k", "v", "dy", "dq", "dk", "dv")}
RESULTS = {"forward": 1, "backward": 3}


@dataclass(frozen=True)
class Matrices:
    """Where the matrices of an operand or result lie: its shape as if not turned, leading dimensions first."""

    shape: Shape
    is_turned: bool

    def steps(self, lead: Shape, outer: int) -> tuple[int, int, int] | None:
        """Elements from one outer number, inner number and row to the next; None where there is no such distance.

        lead: the leading dimensions of all, the first `outer` of which make the outer number. 0: it is shared.
        """
        own, (rows, width) = self.shape[:-2], self.shape[-2:]
        counts = prod(own[:outer]), prod(own[outer:])
        wanted = prod(lead[:outer]), prod(lead[outer:])
        if any(count not in (1, whole) for count, whole in zip(counts, wanted, strict=True)):
            return None
        inner_step, row_step = (width, counts[1] * width) if self.is_turned else (rows * width, width)
        steps = counts[1] * rows * width, inner_step
        shared = tuple(0 if count == 1 else step for count, step in zip(counts, steps, strict=True))
        return shared[0], shared[1], row_step


@lru_cache(maxsize=1024)
def launch(
    kind: str, types: tuple[Type, ...], lead: Shape, is_turned: bool, scale: float, seen: tuple[int, int]
) -> Launch | None:
    """Kernel `kind` ("forward", "backward") on arrays of these types, their dimensions not turned.

    lead: all leading dimensions. seen: (base, step): query i sees base + step · i keys. None: numpy is to do it.
    """
    q, v = types[0], types[2]
    dtype = NAMES.get(str(q.dtype), "")
    if dtype not in DTYPES or not is_available() or any(type.size == 0 for type in types):
        return None
    matrices = [Matrices(type.shape, is_turned) for type in types]
    for outer in [len(lead) - 1] if is_turned else range(len(lead) + 1):
        steps = [step for own in matrices if (step := own.steps(lead, outer)) is not None]
        if len(steps) == len(matrices):
            break
    else:
        return None
    (queries, features), (keys, columns) = q.shape[-2:], v.shape[-2:]
    block = max(LEAST, min(MOST, SCORES // (keys * q.dtype.itemsize)))
    (bits,) = unpack("q", pack("d", scale))
    heads = prod(lead[:outer]), prod(lead[outer:])
    numbers = (*heads, queries, keys, features, columns, *seen, block, bits, *(n for step in steps for n in step))
    width = -(-keys // WIDTH) * WIDTH
    turned = (features * width,) if kind == "forward" else (features * width, columns * width)
    scratch = (*turned, *(block * width for _ in turned), block)
    return Launch(kernel(kind, dtype, len(scratch)), numbers, (-1,) * RESULTS[kind], scratch)


def kernel(kind: str, dtype: str, scratches: int) -> Kernel:
    """Kernel `kind` of `flowcore.jit.attention` for elements of `dtype`."""
    names = ARRAYS[kind]
    source = f"from flowcore.jit.attention import {kind}_{dtype} as loop\n"
    groups = (SIZES, *(STEPS for _ in names))
    return Kernel(source, sum(groups), (dtype,) * (len(names) + scratches), groups=groups)
