"""The loss of a sequence of labels under all its alignments with a longer sequence of predictions.

Graves et al., "Connectionist temporal classification", 2006. Between and around the labels stand blanks; a prediction
stays on its place, moves to the next, or leaps over a blank between two different labels. The logarithms of the sums
over all ways to every place are carried through a scan over time, and the gradient is that of the scan.
"""

from __future__ import annotations

from flowcore.errors import DTypeError, ShapeError
from flowcore.nn.arrays import takes_arrays
from flowcore.nn.losses import reduced
from flowcore.ops.check import below
from flowcore.ops.create import arange, full
from flowcore.ops.extrema import maximum
from flowcore.ops.floats import logaddexp
from flowcore.ops.gather import take_along_axis
from flowcore.ops.join import concatenate, stack
from flowcore.ops.logsumexp import logsumexp
from flowcore.ops.selection import where
from flowcore.ops.shape import broadcast_to
from flowcore.scan import scan
from flowcore.tensor import Tensor

NEVER = -1e30
"""The logarithm of no way at all: finite, so that gradients are."""


@takes_arrays
def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """−log of the probability of each row of `targets` over all alignments; infinite where there is none.

    log_probs: (steps, n, classes), logarithms; targets: (n, labels) integers, padded, without `blank`; input_lengths,
    target_lengths: (n,) integers, how much of each counts. The mean divides each loss by its number of labels first.
    zero_infinity: infinite losses are zeros.
    """
    steps, labels = _checked(log_probs, targets, input_lengths, target_lengths)
    place, dtype, count = log_probs.placement, log_probs.dtype, targets.shape[0]
    targets = below(targets, log_probs.shape[2], "ctc_loss target")
    blanks = full((count, labels), blank, dtype=targets.dtype, placement=place)
    between = stack((blanks, targets), axis=2).reshape((count, 2 * labels))
    places = concatenate((between, full((count, 1), blank, dtype=targets.dtype, placement=place)), axis=1)
    width = 2 * labels + 1
    number = arange(width, placement=place)
    leaps = (places != blank) & (_later(places, 2, blank) != places) & (number >= 2)
    picked = take_along_axis(log_probs, broadcast_to(places, (steps, count, width)), axis=2)
    never = full((count, width), NEVER, dtype=dtype, placement=place)
    begins = where(number < 2, 0.0, never)

    def step(before: Tensor, given: tuple[Tensor, Tensor]) -> tuple[Tensor, None]:
        own, time = given
        leapt = where(leaps, _later(before, 2, NEVER), NEVER)
        stayed = where(time == 0, never, before)
        moved = where(time == 0, begins, logaddexp(_later(before, 1, NEVER), leapt))
        after = maximum(logaddexp(stayed, moved) + own, NEVER)
        return where((time < input_lengths).reshape((count, 1)), after, before), None

    last, _ = scan(step, never, (picked, arange(steps, placement=place)))
    ends = target_lengths.reshape((count, 1)) * 2
    final = where((number == ends) | (number == ends - 1), last, NEVER)
    losses = -logsumexp(final, axis=1)
    losses = where(losses > -NEVER / 2, 0.0 if zero_infinity else float("inf"), losses)
    if reduction == "mean":
        losses = losses / where(target_lengths > 0, target_lengths, 1).astype(dtype)
    return reduced(losses, reduction)


def _checked(x: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor) -> tuple[int, int]:
    """(steps, labels)."""
    if any(item.dtype.kind not in "iu" for item in (targets, input_lengths, target_lengths)):
        raise DTypeError("ctc_loss with targets or lengths that are no integers: cast them with astype")
    count = x.shape[1] if x.ndim == 3 else -1
    if targets.ndim != 2 or {targets.shape[0], *input_lengths.shape, *target_lengths.shape} != {count}:
        shown = ", ".join(str(item.shape) for item in (x, targets, input_lengths, target_lengths))
        raise ShapeError(f"ctc_loss of {shown}: it takes (steps, n, classes), (n, labels), (n,) and (n,)")
    return x.shape[0], targets.shape[1]


def _later(x: Tensor, by: int, first: float) -> Tensor:
    """x moved `by` places along its last axis, `first` in front."""
    front = full((x.shape[0], min(by, x.shape[1])), first, dtype=x.dtype, placement=x.placement)
    return concatenate((front, x[:, : max(x.shape[1] - by, 0)]), axis=1)
