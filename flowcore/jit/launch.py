"""A compiled kernel and one call of it, as plain data: what a row of a program's table is made of.

A kernel takes `int64` numbers, then flat arrays: inputs, results that have memory of their own, scratch. It allocates
nothing, raises nothing, and needs no interpreter. Its *entry* takes all that as words of 64 bits: the numbers, then per
array its address and its length.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Kernel:
    """A kernel by its source.

    source: Python text that defines `loop`, a function compiled by numba, or imports it under that name. numbers: how
    many it takes. kinds: those of the elements of its arrays ("f4", "i8", …). checks: whether `loop` returns a number,
    0 where all is well; else it returns nothing. groups: how many of the first numbers come together, as tuples.
    """

    source: str
    numbers: int
    kinds: tuple[str, ...]
    checks: bool = False
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class Launch:
    """`kernel` with its numbers.

    into: per result the input in whose memory it is, or -1 where it has memory of its own. scratch: how many elements
    each scratch array has. keeps: what must live as long as anybody makes the call.
    """

    kernel: Kernel
    numbers: tuple[int, ...]
    into: tuple[int, ...] = (-1,)
    scratch: tuple[int, ...] = ()
    keeps: object = field(default=None, compare=False)
