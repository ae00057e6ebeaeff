"""Gradients that cross ranks in fewer bits, by leave of the user: every byte is a node of the plan.

"bf16": each rank's term is rounded to bfloat16, sums are formed in float32 and rounded again. "1bit" (F. Seide et al.,
Interspeech 2014): of its term each rank sends the signs, and per row the means of what is negative and of what is not;
what that misses is kept, on that rank, and added to its term of the next step. All ranks' terms are then read and
summed, so nothing is rounded twice. Like the method, its numbers depend on how many ranks there are. Left as they are:
vectors, rows of tables, gradients whose every dimension is split, and all of them in the first `warmup` steps, in which
parameters change the most and signs say the least of them; the step is then planned anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from flowcore.boxing_op import Terms
from flowcore.dispatch import apply, to_global
from flowcore.dtypes import as_dtype, bfloat16, float32
from flowcore.errors import DTypeError, FlowcoreError, PlacementError
from flowcore.op import FUNCTIONS
from flowcore.ops.create import zeros
from flowcore.ops.join import concat
from flowcore.ops.packing import Pack, Unpack
from flowcore.ops.selection import where
from flowcore.placement.layout import Layout
from flowcore.placement.sbp import SBP, B, Broadcast, NdSbp, P, Split
from flowcore.tensor import Tensor
from flowcore.untraced import relay, untraced
from flowcore.world import current

KINDS = ("bf16", "1bit")


@dataclass(frozen=True)
class Compression:
    """How gradients cross ranks.

    kind: "bf16" or "1bit". axis: the mesh axis along which gradients are summed, for "1bit"; "": the first, where no
    other has several ranks. warmup: so many steps go as they are before.
    """

    kind: Any
    axis: str = ""
    warmup: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise FlowcoreError(f"compress={self.kind!r}: use one of {', '.join(map(repr, KINDS))}, or None")
        if self.warmup < 0:
            raise FlowcoreError(f"Compression with warmup={self.warmup}: take 0 or more steps")
        if self.kind == "bf16":
            as_dtype(bfloat16)
            if self.axis:
                raise FlowcoreError(
                    f"Compression('bf16') with axis={self.axis!r}: whatever crosses ranks is rounded, along all mesh "
                    f"axes: leave axis out, or use '1bit'"
                )

    @property
    def reason(self) -> str:
        """Why a plan has the transfers."""
        return f"compress={self.kind!r}"


def as_compression(given: str | Compression | None) -> Compression | None:
    """What a user passes as the compression."""
    return given if given is None or isinstance(given, Compression) else Compression(given)


class Compressor:
    """What each gradient becomes on its way, and what was missed of it so far."""

    def __init__(self, options: Compression) -> None:
        self.options = options
        self.steps = 0
        """Those that ran."""
        self.is_used = False
        """Whether the trace at hand has a gradient that it treats."""
        self.missed: dict[int, tuple[Tensor, Tensor]] = {}
        """By the id of a parameter: that, and what was missed, one part per rank along the axis."""

    @property
    def is_warm(self) -> bool:
        """Whether what crosses ranks is compressed now."""
        return self.steps >= self.options.warmup

    def compressed(self, leaf: Tensor, gradient: Tensor) -> Tensor:
        """`gradient`, that of `leaf`, after its journey."""
        if gradient.dtype.kind == "c":
            raise DTypeError(
                f"{self.options.reason} of the gradient of a {leaf.dtype} parameter of shape {leaf.shape}: only real "
                f"numbers are sent in fewer bits: make it real, or leave compress out"
            )
        self.is_used = True
        axis, is_warm = self._axis(leaf), self.is_warm
        if self.options.warmup:
            current().trace.guards.append(lambda: self.is_warm == is_warm)  # type: ignore[union-attr]  # as below
        if not is_warm:
            return gradient
        if self.options.kind == "bf16":
            return self._explained(gradient.astype(bfloat16).astype(gradient.dtype))
        across = _row(leaf, axis)
        if leaf.placement.shape[axis] == 1 or across is None or gradient.scattered is not None:
            return gradient
        return self._by_signs(leaf, gradient, axis, across)

    def _axis(self, leaf: Tensor) -> int:
        """The number of the mesh axis along which the gradients of `leaf` are summed."""
        placement, name = leaf.placement, self.options.axis
        if name in placement.axes:
            return placement.axis(name)
        if not name and (self.options.kind == "bf16" or placement.shape[0] == placement.size):
            return 0
        what = f"unknown mesh axis {name!r}" if name else "which mesh axis"
        raise PlacementError(
            f"{self.options.reason}, {what}: a parameter of shape {leaf.shape} lies on {placement}: give "
            f"fc.Compression(..., axis={' or '.join(map(repr, placement.axes))}), along which its gradients are summed"
        )

    def _by_signs(self, leaf: Tensor, gradient: Tensor, axis: int, across: int) -> Tensor:
        """The sum of what all ranks know of each other's terms; rows run along dimension `across`."""
        placement, parts, own = leaf.placement, leaf.placement.shape[axis], leaf.sbp
        given = to_global(gradient, placement, _at(own, axis, P))
        order = (*(d for d in range(leaf.ndim) if d != across), across)
        behind = tuple(_behind(part, order) for part in own)
        held = _at(behind, axis, Split(0))
        terms = FUNCTIONS["permute_dims"](apply(Terms(parts), given), (0, *(d + 1 for d in order)))
        missed = self._missed(leaf, terms.shape, Layout(placement, held))
        whole = to_global(terms.astype(float32), placement, held) + missed
        is_up = whole >= 0.0
        low, high = _means(whole, is_up)
        missed.assign(whole - where(is_up, high, low))
        wanted = _at(behind, axis, behind[axis])
        bits, means = (
            self._explained(to_global(sent, placement, wanted))
            for sent in (apply(Pack(), is_up), concat([low, high], axis=-1))
        )
        known = where(apply(Unpack(terms.shape[-1]), bits), means[..., 1:], means[..., :1])
        total = self._explained(to_global(known, placement, wanted)).sum(axis=0)
        back: Tensor = FUNCTIONS["permute_dims"](total, [order.index(dimension) for dimension in range(leaf.ndim)])
        return back.astype(gradient.dtype)

    def _missed(self, leaf: Tensor, shape: tuple[int, ...], layout: Layout) -> Tensor:
        """What was missed of the gradients of `leaf`, zeros at first and where it was placed anew on more ranks."""
        found = self.missed.get(id(leaf))
        if found is None or found[1].shape != shape:
            with untraced():
                made = zeros(shape, dtype=float32, placement=layout.placement, sbp=layout.sbp)
            found = self.missed[id(leaf)] = leaf, made
        elif found[1].layout != layout:
            relay(found[1], layout)
        return found[1]

    def _explained(self, tensor: Tensor) -> Tensor:
        """`tensor`, just computed, its node saying why what it reads moves."""
        nodes = current().trace.builder.nodes  # type: ignore[union-attr]  # gradients are treated in traces only
        nodes[-1] = replace(nodes[-1], reason=self.options.reason)
        return tensor


def _means(x: Tensor, is_up: Tensor) -> tuple[Tensor, Tensor]:
    """The means along the last dimension, kept, of the elements that are not up, and of those that are; 0 of none."""
    count = is_up.astype(float32).sum(axis=-1, keepdims=True)
    at_least: Any = FUNCTIONS["maximum"]
    low = where(is_up, 0.0, x).sum(axis=-1, keepdims=True) / at_least(float(x.shape[-1]) - count, 1.0)
    high = where(is_up, x, 0.0).sum(axis=-1, keepdims=True) / at_least(count, 1.0)
    return low, high


def _row(leaf: Tensor, axis: int) -> int | None:
    """The last dimension that no rank has a part of only, along which rows run; None of a vector, or where none is."""
    pairs = zip(leaf.sbp, leaf.placement.shape, strict=True)
    split = {part.axis for part, ranks in pairs if isinstance(part, Split) and ranks > 1}
    free = [dimension for dimension in range(leaf.ndim) if dimension not in split]
    return free[-1] if free and leaf.ndim > 1 else None


def _behind(part: SBP, order: tuple[int, ...]) -> SBP:
    """`part` of a tensor whose dimensions are put in `order`, behind a new one."""
    return Split(order.index(part.axis) + 1) if isinstance(part, Split) else part


def _at(sbp: NdSbp, axis: int, part: SBP) -> NdSbp:
    """`sbp` with `part` along mesh axis number `axis`; what else is partial is whole."""
    whole = (own if isinstance(own, Split | Broadcast) else B for own in sbp)
    return tuple(part if place == axis else own for place, own in enumerate(whole))
