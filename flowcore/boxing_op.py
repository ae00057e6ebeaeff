"""The operators that concern layouts alone: what a user or the compiler asks for, and what the plan makes of it.

`to_global` is logical: the identity on values, with the placement and perhaps the SBP its result must have; and so is
`carry`, which closes the circle of a value that lives from step to step. `box` is physical: it moves one value from one
layout to another, and carries both. `terms` moves nothing: it sees what ranks hold of a partial value as a value that
is split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from flowcore.comm.boxing import BoxingPlan, plan_boxing
from flowcore.errors import GraphError
from flowcore.op import Array, Op, Type, operator
from flowcore.op import Block as BlockOf
from flowcore.placement.layout import Layout, parse_layout, sbp_text
from flowcore.placement.mesh import Placement, parse_placement
from flowcore.placement.sbp import B, NdSbp, P, Split, parse_nd_sbp
from flowcore.placement.signature import Signature

parse_placement_once = lru_cache(maxsize=4096)(parse_placement)
parse_layout_once = lru_cache(maxsize=65536)(parse_layout)


@operator
class Relayout(Op):
    """y = x, on `placement`, laid out as `sbp` ("": whatever the planner finds best)."""

    name: ClassVar[str] = "to_global"
    precision: ClassVar[str] = "same"
    spans: ClassVar[bool] = True
    placement: str
    sbp: str = ""
    grad_placement: str = ""
    grad_sbp: str = ""

    def infer(self, *types: Type) -> tuple[Type, ...]:
        return types

    @property
    def target(self) -> tuple[Placement, NdSbp | None]:
        """Where the result lies, and its SBP if the request fixes it."""
        return parse_placement_once(self.placement), parse_nd_sbp(self.sbp) if self.sbp else None

    def vjp(self, dy: Any, *inputs: Any) -> Any:
        return dy.apply(Relayout(self.grad_placement, self.grad_sbp, self.placement, self.sbp))

    def kernel(self, *arrays: Array) -> Array:
        return arrays[0]

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op:
        return replace(self, sbp=_behind_new_axis(self.sbp), grad_sbp=_behind_new_axis(self.grad_sbp))


def _behind_new_axis(sbp: str) -> str:
    """The same layout of a value that has a new leading axis: S(i) becomes S(i + 1)."""
    parts = parse_nd_sbp(sbp) if sbp else ()
    return sbp_text(tuple(Split(part.axis + 1) if isinstance(part, Split) else part for part in parts))


@operator
class Carry(Op):
    """y = new, which an input, old, becomes from step to step: both ends lie alike, as the planner finds best."""

    name: ClassVar[str] = "carry"

    def infer(self, *types: Type) -> tuple[Type, ...]:
        return types[:1]

    def kernel(self, *arrays: Array) -> Array:
        return arrays[0]


@operator
class Boxing(Op):
    """y = x, moved from layout `source` to layout `target`; `hosts`: the host of every rank, () where all share one."""

    name: ClassVar[str] = "box"
    source: str
    target: str
    hosts: tuple[int, ...] = ()

    def infer(self, *types: Type) -> tuple[Type, ...]:
        return types

    @property
    def layouts(self) -> tuple[Layout, Layout]:
        """Source and target."""
        return parse_layout_once(self.source), parse_layout_once(self.target)

    def plan(self, type: Type) -> BoxingPlan:
        """The steps that move a value of `type`."""
        return plan_boxing(type.shape, type.dtype, *self.layouts, self.hosts)

    def kernel(self, *arrays: Array) -> Array:
        raise GraphError("box is run by the transport, not by a kernel")


@operator
class Terms(Op):
    """y, of one more leading dimension, of length `parts`, whose sum along that is x.

    Of a value partial over as many ranks, y[r] is what rank r holds, and stays there; of one that every rank holds
    whole, y[0] is the value. So y, unlike every other result, depends on the layout, though what it sums to does not.
    `rows`: how many of y are made here (-1: all).
    """

    name: ClassVar[str] = "terms"
    precision: ClassVar[str] = "same"
    parts: int
    rows: int = -1

    def infer(self, x: Type, **_: Any) -> tuple[Type, ...]:
        return (replace(x, shape=(self.parts if self.rows < 0 else self.rows, *x.shape)),)

    def flops(self, *types: Type) -> int:
        return 0

    def rules(self, types: tuple[Type, ...], parts: int) -> tuple[Signature, ...]:
        kept = [Signature((Split(axis),), (Split(axis + 1),)) for axis in range(types[0].ndim)]
        held = [Signature((P,), (Split(0),))] if parts == self.parts else []
        return (Signature((B,), (B,)), *kept, *held)

    def localize(self, inputs: Sequence[BlockOf], outputs: Sequence[BlockOf]) -> Op:
        start, stop = outputs[0].box[0]
        return replace(self, rows=stop - start)

    def kernel(self, x: Array, **_: Any) -> Array:
        if self.rows == 1:
            return x[None]
        more = (self.parts if self.rows < 0 else self.rows) - 1
        return np.concatenate([x[None], np.zeros((more, *x.shape), x.dtype)])


LAYOUT_OPERATORS = (Boxing, Relayout, Carry, Terms)
"""Whose results depend on layouts, so that no signature says what they do."""
