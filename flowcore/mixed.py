"""The precision in which a compiled function computes, and the scale that keeps small gradients above zero in float16.

Micikevicius et al., arXiv:1710.03740. `backward` inside the function starts from the scale instead of 1, and divides
the gradients by it. Where one of them is not finite, on any rank, nothing that the function assigns changes, and the
scale is multiplied by `backoff`; after `interval` steps without that it is multiplied by `growth`. Scale and count are
tensors that the compiled graph reads and replaces, so every rank decides alike, in the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import isfinite
from typing import Any

from flowcore.dispatch import asarray, to_global
from flowcore.dtypes import DType, as_dtype, bfloat16, float16, float32
from flowcore.errors import DTypeError, FlowcoreError
from flowcore.op import FUNCTIONS
from flowcore.placement.mesh import Placement
from flowcore.tensor import Tensor
from flowcore.untraced import untraced
from flowcore.world import current

SHORT = {"bf16": "bfloat16", "fp16": "float16"}
LEAST, GREATEST = 2.0**-64, 2.0**64
"""Between these lies the scale."""
MOST_STEPS = 2**24
"""The longest interval."""
NUMBERS = ("scale", "growth", "backoff")


@dataclass(frozen=True)
class Precision:
    """Sums of products are computed in `dtype`, "bf16" or "fp16", from float32 parameters.

    The rest is about fp16: the scale of the loss at first, what multiplies it and when.
    """

    dtype: Any
    scale: float = 2.0**16
    growth: float = 2.0
    backoff: float = 0.5
    interval: int = 2000

    def __post_init__(self) -> None:
        is_known = isinstance(self.dtype, str) and self.dtype in (*SHORT, *SHORT.values())
        if not is_known or self.narrow not in (float16, bfloat16):
            raise DTypeError(f"precision {self.dtype!r}: use 'bf16' or 'fp16', or None for that of the operands")
        for name in NUMBERS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isfinite(value):
                raise DTypeError(f"Precision with {name}={value!r}: give a finite number")
        moot = [name for name in (*NUMBERS, "interval") if getattr(self, name) != getattr(Precision, name)]
        if moot and not self.is_scaled:
            given = ", ".join(f"{name}={getattr(self, name)!r}" for name in moot)
            raise FlowcoreError(
                f"Precision({self.dtype!r}) with {given}: only 'fp16' scales the loss, as bfloat16 reaches as far as "
                f"float32: leave {' and '.join(moot)} out"
            )
        if not 0 < self.backoff < 1 <= self.growth:
            raise FlowcoreError(f"backoff={self.backoff}, growth={self.growth}: take 0 < backoff < 1 <= growth")
        if not LEAST <= self.scale <= GREATEST:
            raise FlowcoreError(f"scale={self.scale}: take one from 2.0**-64 to 2.0**64")
        if not 1 <= self.interval <= MOST_STEPS:
            raise FlowcoreError(f"interval={self.interval}: take 1 to {MOST_STEPS} steps, which float32 counts exactly")

    @property
    def narrow(self) -> DType:
        """The narrow dtype."""
        return as_dtype(SHORT.get(self.dtype, self.dtype))

    @property
    def is_scaled(self) -> bool:
        """Whether the loss is scaled."""
        return self.narrow == float16


def as_precision(given: str | Precision | None) -> Precision | None:
    """What a user passes as the precision."""
    return given if given is None or isinstance(given, Precision) else Precision(given)


class LossScale:
    """The scale, how many steps in a row were finite, and what the trace at hand knows of its gradients."""

    def __init__(self, options: Precision) -> None:
        self.options = options
        with untraced():
            everyone = current().everyone
            self.scale = asarray(options.scale, dtype=float32, placement=everyone, sbp="B")
            self.good = asarray(0.0, dtype=float32, placement=everyone, sbp="B")
        self.marks: dict[Placement, list[Tensor]] = {}

    def open(self) -> None:
        """At the start of a trace: forget one that did not come to its end."""
        self.marks = {}

    def seed(self, cotangent: Tensor) -> Tensor:
        """`cotangent`, scaled."""
        return cotangent * to_global(self.scale, cotangent.placement, "B").astype(cotangent.dtype)

    def unscaled(self, gradient: Tensor) -> Tensor:
        """`gradient` divided by the scale."""
        return gradient * (1.0 / to_global(self.scale, gradient.placement, "B")).astype(gradient.dtype)

    def note(self, gradient: Tensor) -> None:
        """Note whether a gradient is finite."""
        # the sum of zeros where all are finite, else nan; |x| is no sum of terms, so it is that of the whole gradient
        mark = (FUNCTIONS["abs"](gradient).astype(float32) * 0.0).sum()
        self.marks.setdefault(gradient.placement, []).append(mark)

    def close(self) -> None:
        """At the end of a trace: undo what it assigned where a gradient is not finite, and set the next scale.

        The gradients that it leaves are then those it found, or zeros.
        """
        trace, world = current().trace, current()
        marks, self.marks = self.marks, {}
        if trace is None or not marks:
            return
        totals = [to_global(reduce(Tensor.__add__, found), world.everyone, "B") for found in marks.values()]
        is_finite = to_global(reduce(Tensor.__add__, totals) == 0.0, world.everyone, "B")
        where, options = FUNCTIONS["where"], self.options
        for tensor, _ in list(trace.bound.values()):
            # what was assigned, not yet laid out: the choice is then made where that was computed, part by part
            new, old = trace.given[id(tensor)], trace.original(tensor)
            new = new if new.placement == tensor.placement else trace.lift(tensor)
            trace.assign(tensor, where(to_global(is_finite, tensor.placement, "B"), new, old))
        for tensor, gradient in list(trace.grads.values()):
            if gradient is not None:
                before = trace.found_grad(tensor)
                chosen = to_global(is_finite, gradient.placement, "B")
                trace.write_grad(tensor, where(chosen, gradient, 0.0 if before is None else before))
        many = self.good + 1.0 >= float(options.interval)
        grown = where(many, FUNCTIONS["minimum"](self.scale * options.growth, GREATEST), self.scale)
        shrunk = FUNCTIONS["maximum"](self.scale * options.backoff, LEAST)
        good = where(is_finite, where(many, 0.0, self.good + 1.0), 0.0)
        trace.assign(self.scale, where(is_finite, grown, shrunk))
        trace.assign(self.good, good)
