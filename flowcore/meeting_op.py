"""The operators of ranks that see each other's memory: what a change of layout within a host becomes.

A value that peers read is *shown*: its register lies in memory that they see. `Post` says that all shown values are
written, `Wait` gives views of what peers show once they have said so, and what is then put together or reduced is
ordinary work of the rank, which other passes may join with what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from flowcore.comm.kernels import reduce_fused
from flowcore.comm.reduction import Levels, identity
from flowcore.comm.route import Index
from flowcore.op import Array, Op, Type
from flowcore.placement.layout import Shape


@dataclass(frozen=True)
class Collect(Op):
    """A new value put together from terms: each of `parts` is an index of it and how many terms are reduced into it.

    levels: the reductions, as in a boxing plan. fills: (index, op): there is the identity of that reduction.
    """

    type: Type
    parts: tuple[tuple[Index, int], ...]
    levels: Levels = ()
    fills: tuple[tuple[Index, str], ...] = ()

    name: ClassVar[str] = "collect"
    narrow: ClassVar[bool] = True
    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        return (self.type,)

    def kernel(self, *arrays: Any, **_: Any) -> Any:
        return self.write((None,), *arrays)

    def write(self, results: Sequence[Array | None], *arrays: Any) -> Any:
        out = np.empty(self.type.shape, self.type.dtype) if results[0] is None else results[0]
        for index, op in self.fills:
            out[index] = identity(op, self.type.dtype)
        start = 0
        for index, count in self.parts:
            reduce_fused(arrays[start : start + count], self.levels, out[index])
            start += count
        return out

    def text(self) -> str:
        return f"{self.name}{{{len(self.parts)} parts}}"

    def __hash__(self) -> int:
        return hash((self.name, self.type, len(self.parts)))


@dataclass(frozen=True)
class Post(Op):
    """This rank's shown values are written. keys: by which peers know them."""

    ranks: tuple[int, ...]
    digest: int
    keys: tuple[int, ...]

    name: ClassVar[str] = "post"
    narrow: ClassVar[bool] = True
    reaches_others: ClassVar[bool] = True

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        return ()

    def text(self) -> str:
        return f"{self.name}{{{len(self.keys)} values to {len(self.ranks)} ranks}}"


@dataclass(frozen=True)
class View:
    """What a rank reads of a peer: `index` of the value of `source` that `rank` shows as `key`."""

    rank: int
    key: int
    source: Type
    index: Index
    shape: Shape

    def __hash__(self) -> int:
        return hash((self.rank, self.key, self.source, self.shape))


@dataclass(frozen=True)
class Wait(Op):
    """Views of what peers show, when all of `ranks` have posted."""

    ranks: tuple[int, ...]
    digest: int
    views: tuple[View, ...]

    name: ClassVar[str] = "wait"
    narrow: ClassVar[bool] = True
    makes_memory: ClassVar[bool] = True
    reaches_others: ClassVar[bool] = True

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        return tuple(Type(view.shape, view.source.dtype) for view in self.views)

    def text(self) -> str:
        return f"{self.name}{{{len(self.views)} views of {len(self.ranks)} ranks}}"


__all__ = ["Collect", "Post", "View", "Wait"]
