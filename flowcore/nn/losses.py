"""Losses, as composites of operators; arguments as in PyTorch.

The classes of a classification stand on `axis` (the last; PyTorch's is 1). Where that axis is split, every rank takes
the greatest logit, the sum of powers and the logit of the target of its own classes: three partial results with one
element per row are all that crosses ranks.
"""

from __future__ import annotations

from math import exp as exponential
from math import log as logarithm
from math import pi

from flowcore.dtypes import is_real
from flowcore.errors import DTypeError, FlowcoreError, ShapeError
from flowcore.nn.activations import log_softmax, softplus
from flowcore.nn.arrays import takes_arrays
from flowcore.ops.check import below
from flowcore.ops.comparison import logical_and
from flowcore.ops.gather import take, take_along_axis
from flowcore.ops.selection import where
from flowcore.ops.shape import permute_dims
from flowcore.ops.unary import exp, log, sqrt
from flowcore.tensor import Tensor

REDUCTIONS = ("mean", "sum", "none")


@takes_arrays
def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    axis: int = -1,
) -> Tensor:
    """−weight[target] log softmax(logits)[target], over the classes, which stand on `axis` and may be split.

    target: class numbers, of the shape of the logits without `axis`, each in 0..classes-1 or `ignore_index`
    (ShapeError names another); or, floating, probabilities of the logits' shape. weight: (classes,). The mean divides
    by the weights of the targets (of probabilities: by the rows); rows whose target is `ignore_index` do not count.
    label_smoothing ε: the target has 1 − ε, and all classes share ε.
    """
    if not 0 <= label_smoothing <= 1:
        raise FlowcoreError(f"cross_entropy with label_smoothing={label_smoothing}: it lies between 0 and 1")
    along = _class_axis(logits, axis)
    logs, numbers = log_softmax(logits, along), _per_class(weight, logits, along)
    if is_real(target.dtype) and target.shape == logits.shape:
        if ignore_index is not None:
            raise FlowcoreError("ignore_index with probabilities as targets: it names a class number; leave it out")
        shared = target * (1 - label_smoothing) + label_smoothing / logits.shape[along]
        weighted = logs if numbers is None else logs * numbers
        rows = -(shared * weighted).sum(axis=along)
        return rows.sum() * (1 / max(rows.size, 1)) if reduction == "mean" else reduced(rows, reduction)
    picked, weights, counts = _picked(logs, target, weight, ignore_index, along, "cross_entropy")
    losses = -picked if weights is None else -picked * weights
    if label_smoothing:
        smooth = (logs if numbers is None else logs * numbers).sum(axis=along)
        losses = losses * (1 - label_smoothing) - smooth * (label_smoothing / logits.shape[along])
    return _averaged(losses, weights, counts, reduction)


@takes_arrays
def nll_loss(
    log_probabilities: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    axis: int = -1,
) -> Tensor:
    """−weight[target] log_probabilities[target]; see `cross_entropy`."""
    along = _class_axis(log_probabilities, axis)
    picked, weights, counts = _picked(log_probabilities, target, weight, ignore_index, along, "nll_loss")
    return _averaged(-picked if weights is None else -picked * weights, weights, counts, reduction)


def _class_axis(logits: Tensor, axis: int) -> int:
    if not -logits.ndim <= axis < logits.ndim:
        raise ShapeError(f"classes on axis {axis} of logits {logits.shape}: there is none; give one that exists")
    return axis % logits.ndim


def _per_class(weight: Tensor | None, logits: Tensor, axis: int) -> Tensor | None:
    """The weights of the classes, to be multiplied with the logits."""
    if weight is None:
        return None
    if weight.shape != (logits.shape[axis],):
        raise ShapeError(f"weights of shape {weight.shape} for {logits.shape[axis]} classes: give one for each")
    return weight.reshape((-1, *(1,) * (logits.ndim - axis - 1)))


def _picked(
    logs: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int | None, axis: int, name: str
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Of every row: the logarithm of its target, the weight of this class, and whether it counts (None: 1, yes)."""
    if target.dtype.kind not in "iu":
        raise DTypeError(f"{name} with targets of {target.dtype}: pass class numbers as integers")
    rows = (*logs.shape[:axis], *logs.shape[axis + 1 :])
    if target.shape != rows:
        raise ShapeError(
            f"{name} of logits {logs.shape} needs targets of shape {rows}, not {target.shape}: classes stand on axis "
            f"{axis}"
        )
    target = below(target, logs.shape[axis], f"{name} target", () if ignore_index is None else (ignore_index,))
    counts = None if ignore_index is None else target != ignore_index
    if counts is not None:
        target = where(counts, target, 0)
    last = logs.ndim - 1
    order = [other for other in range(last + 1) if other != axis] + [axis]
    moved = logs if axis == last else permute_dims(logs, tuple(order))
    picked = take_along_axis(moved, target.reshape((*rows, 1)), axis=-1).reshape(rows)
    return picked, None if weight is None else take(weight, target, axis=0), counts


def _averaged(losses: Tensor, weights: Tensor | None, counts: Tensor | None, reduction: str) -> Tensor:
    """The losses of the rows that count, reduced; the mean divides by their weights."""
    if counts is not None:
        losses = where(counts, losses, 0)
    if reduction != "mean" or (counts is None and weights is None):
        return reduced(losses, reduction)
    if weights is None:
        assert counts is not None
        return losses.sum() / counts.astype(losses.dtype).sum()
    return losses.sum() / (weights if counts is None else where(counts, weights, 0)).sum()


@takes_arrays
def mse_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(x − target)²."""
    difference = _difference(x, target, "mse_loss")
    return reduced(difference * difference, reduction)


@takes_arrays
def l1_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|x − target|."""
    return reduced(abs(_difference(x, target, "l1_loss")), reduction)


@takes_arrays
def smooth_l1_loss(x: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """d²/(2 beta) where d = |x − target| < beta, else d − beta/2."""
    if beta < 0:
        raise FlowcoreError(f"smooth_l1_loss with beta={beta}: it must not be negative")
    if beta == 0:
        return l1_loss(x, target, reduction)
    return huber_loss(x, target, reduction, beta) * (1 / beta)


@takes_arrays
def huber_loss(x: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """d²/2 where d = |x − target| < delta, else delta (d − delta/2)."""
    if delta <= 0:
        raise FlowcoreError(f"huber_loss with delta={delta}: it must be positive")
    d = abs(_difference(x, target, "huber_loss"))
    near = where(d < delta, d, delta)
    return reduced(near * (d - near * 0.5), reduction)


@takes_arrays
def binary_cross_entropy(x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """−weight (target log x + (1 − target) log(1 − x)) of probabilities x; logarithms are no less than −100."""
    _same(x, target, "binary_cross_entropy")
    losses = -(target * _bounded_log(x) + (1 - target) * _bounded_log(1 - x))
    return reduced(losses if weight is None else losses * weight, reduction)


@takes_arrays
def binary_cross_entropy_with_logits(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`binary_cross_entropy` of sigmoid(x), where nothing overflows. pos_weight: of the part with `target`."""
    _same(x, target, "binary_cross_entropy_with_logits")
    own = target if pos_weight is None else target * pos_weight
    losses = own * softplus(-x) + (1 - target) * softplus(x)
    return reduced(losses if weight is None else losses * weight, reduction)


@takes_arrays
def kl_div(x: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target (log target − x), x logarithms of probabilities; 0 where target is 0. log_target: so is the target.

    reduction: also "batchmean", the sum divided by the length of dimension 0.
    """
    _same(x, target, "kl_div")
    if log_target:
        losses = exp(target) * (target - x)
    else:
        positive = target > 0
        losses = where(positive, target * (log(where(positive, target, 1)) - x), 0)
    return losses.sum() * (1 / x.shape[0]) if reduction == "batchmean" else reduced(losses, reduction)


@takes_arrays
def poisson_nll_loss(
    x: Tensor, target: Tensor, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean"
) -> Tensor:
    """exp(x) − target x, or x − target log(x + eps) unless log_input. full: with Stirling's term where target > 1."""
    _same(x, target, "poisson_nll_loss")
    losses = exp(x) - target * x if log_input else x - target * log(x + eps)
    if full:
        large = target > 1
        safe = where(large, target, 1)
        losses = losses + where(large, safe * log(safe) - safe + log(safe * (2 * pi)) * 0.5, 0)
    return reduced(losses, reduction)


@takes_arrays
def gaussian_nll_loss(
    x: Tensor, target: Tensor, var: Tensor, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """(log v + (x − target)² / v) / 2, v = max(var, eps). full: with log(2π) / 2."""
    floor = where(var > eps, var, eps)
    difference = _difference(x, target, "gaussian_nll_loss")
    losses = (log(floor) + difference * difference / floor) * 0.5
    return reduced(losses + logarithm(2 * pi) / 2 if full else losses, reduction)


@takes_arrays
def hinge_embedding_loss(x: Tensor, target: Tensor, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """x where target is 1, max(0, margin − x) where it is −1."""
    _same(x, target, "hinge_embedding_loss")
    return reduced(where(target == 1, x, _positive(margin - x)), reduction)


@takes_arrays
def soft_margin_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """log(1 + exp(−target x)), target 1 or −1."""
    _same(x, target, "soft_margin_loss")
    return reduced(softplus(-(target * x)), reduction)


@takes_arrays
def margin_ranking_loss(x1: Tensor, x2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean") -> Tensor:
    """max(0, −target (x1 − x2) + margin)."""
    return reduced(_positive(-(target * _difference(x1, x2, "margin_ranking_loss")) + margin), reduction)


@takes_arrays
def cosine_similarity(x1: Tensor, x2: Tensor, axis: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 · x2 / max(|x1| |x2|, eps) along `axis`."""
    squares = (x1 * x1).sum(axis=axis) * (x2 * x2).sum(axis=axis)
    return (x1 * x2).sum(axis=axis) / sqrt(where(squares > eps * eps, squares, eps * eps))


@takes_arrays
def cosine_embedding_loss(
    x1: Tensor, x2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """1 − cosine where target is 1, max(0, cosine − margin) where it is −1; x1, x2: (…, features)."""
    cosine = cosine_similarity(x1, x2, axis=-1)
    return reduced(where(target == 1, 1 - cosine, _positive(cosine - margin)), reduction)


@takes_arrays
def pairwise_distance(x1: Tensor, x2: Tensor, eps: float = 1e-6) -> Tensor:
    """|x1 − x2 + eps| along the last axis."""
    difference = x1 - x2 + eps
    return sqrt((difference * difference).sum(axis=-1))


@takes_arrays
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, |anchor − positive| − |anchor − negative| + margin). swap: the negative may be nearer to the positive."""
    near, far = pairwise_distance(anchor, positive, eps), pairwise_distance(anchor, negative, eps)
    if swap:
        other = pairwise_distance(positive, negative, eps)
        far = where(other < far, other, far)
    return reduced(_positive(near - far + margin), reduction)


def _positive(x: Tensor) -> Tensor:
    return where(x > 0, x, 0)


def _same(x: Tensor, target: Tensor, name: str) -> None:
    if x.shape != target.shape:
        raise ShapeError(f"{name} of shapes {x.shape} and {target.shape}: they must be equal; reshape one")


def _bounded_log(x: Tensor) -> Tensor:
    """log x, but no less than −100; there its gradient is 0, not nan."""
    is_tiny = logical_and(x >= 0, x <= exponential(-100.0))
    return where(is_tiny, -100.0, log(where(is_tiny, 1.0, x)))


def _difference(x: Tensor, target: Tensor, name: str) -> Tensor:
    _same(x, target, name)
    return x - target


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
