"""Losses: what a result should have been → one number."""

from __future__ import annotations

from flowcore.errors import DTypeError, FlowcoreError, ShapeError
from flowcore.nn.activations import log_softmax
from flowcore.ops.check import below
from flowcore.ops.create import arange
from flowcore.ops.selection import where
from flowcore.tensor import Tensor

REDUCTIONS = ("mean", "sum", "none")


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """−log softmax(logits)[target], over the last axis of the logits, which may be split.

    logits: (…, classes), floating; target: (…), integers in 0..classes-1 or `ignore_index` (ShapeError names another).
    Rows whose target is `ignore_index` count neither in the sum nor in the mean. label_smoothing ε: the target has
    1 − ε, and all classes share ε.
    """
    if target.dtype.kind not in "iu":
        raise DTypeError(f"cross_entropy with targets of {target.dtype}: pass class numbers as integers")
    if logits.ndim < 1 or target.shape != logits.shape[:-1]:
        raise ShapeError(
            f"cross_entropy of logits {logits.shape} needs targets of shape {logits.shape[:-1]}, not {target.shape}: "
            f"classes stand on the last axis"
        )
    classes = logits.shape[-1]
    target = below(target, classes, "cross_entropy target", () if ignore_index is None else (ignore_index,))
    logs = log_softmax(logits)
    numbers = arange(classes, dtype=target.dtype, placement=logits.placement)
    losses = -where(target.reshape((*target.shape, 1)) == numbers, logs, 0).sum(axis=-1)
    if label_smoothing:
        losses = losses * (1 - label_smoothing) - logs.sum(axis=-1) * (label_smoothing / classes)
    if ignore_index is None:
        return reduced(losses, reduction)
    counts = target != ignore_index
    kept = where(counts, losses, 0)
    return kept.sum() / counts.astype(kept.dtype).sum() if reduction == "mean" else reduced(kept, reduction)


def mse_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(x − target)²; both of one shape."""
    if x.shape != target.shape:
        raise ShapeError(f"mse_loss of shapes {x.shape} and {target.shape}: they must be equal; reshape one")
    difference = x - target
    return reduced(difference * difference, reduction)


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """The mean, the sum or ("none") all of `losses`."""
    match reduction:
        case "mean":
            return losses.mean()
        case "sum":
            return losses.sum()
        case "none":
            return losses
    raise FlowcoreError(f"unknown reduction {reduction!r}: choose one of {', '.join(REDUCTIONS)}")
