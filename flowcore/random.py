"""Random tensors from a state of two numbers: (seed, how many draws were made).

An element of a draw depends on the seed, the number of the draw and the element's index alone, so it is the same on
every layout and any number of ranks (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). The state is
a replicated tensor: in a compiled function it is read and advanced like any other state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf, isfinite, prod
from numbers import Integral
from operator import index
from typing import Any

import numpy as np

from flowcore.dispatch import asarray, default_layout, held, operands, to_global
from flowcore.dtypes import as_dtype, float32, int64
from flowcore.errors import CheckpointError, ShapeError
from flowcore.grad import no_grad
from flowcore.ops import permutation as orders
from flowcore.ops import random as draws
from flowcore.ops.argument import argmax
from flowcore.ops.axes import axis_of
from flowcore.ops.call import apply
from flowcore.ops.elementwise import broadcast_shape
from flowcore.ops.gather import take
from flowcore.ops.rejection import Gamma, Poisson, TruncatedNormal
from flowcore.ops.selection import where
from flowcore.ops.shape import broadcast_to
from flowcore.ops.sort import argsort
from flowcore.ops.unary import log
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import SbpLike
from flowcore.tensor import Tensor, TensorLike
from flowcore.untraced import untraced
from flowcore.world import current

KEY, STEP = "random.key", "random.step"
BEGIN = {KEY: (0, 0), STEP: (0, 1)}
TINY = 2.0**-1074
"""The least positive number."""
Shape = int | Sequence[int]


def manual_seed(seed: int) -> None:
    """Begin the sequence of draws that `seed` names."""
    set_state({"seed": seed, "counter": 0})


def get_state() -> dict[str, int]:
    """The seed, and how many draws were made since."""
    seed, counter = _stored(KEY).to_local().tolist()
    return {"seed": seed, "counter": counter}


def set_state(state: Mapping[str, int]) -> None:
    """Go on from what `get_state` gave."""
    if not isinstance(state, Mapping) or {*state} != {"seed", "counter"}:
        raise CheckpointError(f"a random state has a seed and a counter, not {state!r}: pass what get_state gave")
    seed, counter = index(state["seed"]), index(state["counter"])
    if not -(2**63) <= seed < 2**63 or not 0 <= counter < 2**63:
        raise CheckpointError(f"a random state has a 64-bit seed and a counter from 0, not {dict(state)}")
    with untraced():
        _stored(KEY).assign(_replicated((seed, counter)))


def next_key(placement: Placement | None = None) -> Tensor:
    """A key (seed, counter) for one draw on `placement`, replicated there; no other draw gets it."""
    key, everyone = _stored(KEY), current().everyone
    target = default_layout(placement, None).placement
    with no_grad():
        mine = key.detach() if target == everyone else to_global(key, target, "B")
        key.assign(key + _stored(STEP))
    return mine


def rand(*shape: Shape, dtype: Any = float32, placement: Placement | None = None, sbp: SbpLike | None = None) -> Tensor:
    """Evenly spread over [0, 1). The lengths may be given one by one or as one sequence."""
    return _drawn(lambda key: draws.uniform(key, _lengths(shape), dtype), placement, sbp)


def randn(
    *shape: Shape, dtype: Any = float32, placement: Placement | None = None, sbp: SbpLike | None = None
) -> Tensor:
    """Normally distributed with mean 0 and variance 1."""
    return _drawn(lambda key: draws.normal(key, _lengths(shape), dtype), placement, sbp)


def uniform(
    low: float = 0.0,
    high: float = 1.0,
    shape: Shape = (),
    dtype: Any = float32,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """Evenly spread over [low, high)."""
    return _drawn(lambda key: draws.uniform(key, _lengths((shape,)), dtype) * (high - low) + low, placement, sbp)


def normal(
    mean: float = 0.0,
    std: float = 1.0,
    shape: Shape = (),
    dtype: Any = float32,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """Normally distributed with this mean and standard deviation."""
    _check("normal", "std", std, 0)
    return _drawn(lambda key: draws.normal(key, _lengths((shape,)), dtype) * std + mean, placement, sbp)


def randint(
    low: int,
    high: int,
    shape: Shape = (),
    dtype: Any = int64,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """Integers from low to high − 1, equally likely; DTypeError where `dtype` does not hold them."""
    for bound in (low, high - 1):
        held(index(bound), as_dtype(dtype))
    return _drawn(lambda key: draws.randint(key, low, high, _lengths((shape,)), dtype), placement, sbp)


def bernoulli(
    probability: TensorLike, shape: Shape, placement: Placement | None = None, sbp: SbpLike | None = None
) -> Tensor:
    """True with `probability`, which broadcasts to `shape`."""
    _check("bernoulli", "probability", probability, 0, 1)
    return _drawn(lambda key: draws.bernoulli(key, probability, _lengths((shape,))), placement, sbp)


def permutation(length: int, placement: Placement | None = None, sbp: SbpLike | None = None) -> Tensor:
    """The integers below `length` in random order."""
    return _drawn(lambda key: orders.permutation(key, length), placement, sbp)


def exponential(
    scale: TensorLike = 1.0, shape: Shape | None = None, dtype: Any = float32, placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:  # fmt: skip
    """Exponential with mean `scale`, which broadcasts to `shape` (None: its own)."""
    _check("exponential", "scale", scale, 0)
    return _of(lambda key, one: -log(_inside(key, one.shape)) * one, (scale,), shape, dtype, placement, sbp)


def laplace(
    mean: TensorLike = 0.0, scale: TensorLike = 1.0, shape: Shape | None = None, dtype: Any = float32,
    placement: Placement | None = None, sbp: SbpLike | None = None,
) -> Tensor:  # fmt: skip
    """Laplace: density exp(-|x - mean| / scale) / (2 scale)."""

    def draw(key: Tensor, at: Tensor, by: Tensor) -> Tensor:
        u = _inside(key, at.shape)
        return at + by * where(u < 0.5, log(2 * u), -log(2 - 2 * u))

    return _of(draw, (mean, scale), shape, dtype, placement, sbp)


def gumbel(
    mean: TensorLike = 0.0, scale: TensorLike = 1.0, shape: Shape | None = None, dtype: Any = float32,
    placement: Placement | None = None, sbp: SbpLike | None = None,
) -> Tensor:  # fmt: skip
    """Gumbel: P(below x) = exp(-exp(-(x - mean) / scale))."""
    draw = lambda key, at, by: at - by * log(-log(_inside(key, at.shape)))  # noqa: E731  # as brief as its formula
    return _of(draw, (mean, scale), shape, dtype, placement, sbp)


def truncated_normal(
    low: float = -2.0, high: float = 2.0, shape: Shape = (), mean: float = 0.0, std: float = 1.0,
    dtype: Any = float32, placement: Placement | None = None, sbp: SbpLike | None = None,
) -> Tensor:  # fmt: skip
    """Normal with this mean and standard deviation, given that it lies in [low, high]."""
    if not (low < high and std > 0 and isfinite(low) and isfinite(high)):
        raise ShapeError(f"truncated_normal in [{low}, {high}] with std {std}: give finite low < high and std > 0")
    op = TruncatedNormal(width=(high - low) / std)
    draw = lambda key, a: apply(op, key, a) * std + mean  # noqa: E731  # as brief as its formula
    return _of(draw, ((low - mean) / std,), shape, dtype, placement, sbp)


def gamma(
    concentration: TensorLike, scale: TensorLike = 1.0, shape: Shape | None = None, dtype: Any = float32,
    placement: Placement | None = None, sbp: SbpLike | None = None,
) -> Tensor:  # fmt: skip
    """Gamma: density proportional to x^(concentration - 1) exp(-x / scale)."""
    _check("gamma", "concentration", concentration, TINY)
    _check("gamma", "scale", scale, 0)
    draw = lambda key, a, by: apply(Gamma(), key, a) * by  # noqa: E731  # as brief as its formula
    return _of(draw, (concentration, scale), shape, dtype, placement, sbp)


def beta(
    a: TensorLike, b: TensorLike, shape: Shape | None = None, dtype: Any = float32,
    placement: Placement | None = None, sbp: SbpLike | None = None,
) -> Tensor:  # fmt: skip
    """Beta: density proportional to x^(a - 1) (1 - x)^(b - 1); the ratio x / (x + y) of two gammas."""
    _check("beta", "a", a, TINY)
    _check("beta", "b", b, TINY)

    def draw(key: Tensor, one: Tensor, other: Tensor) -> Tensor:
        x, y = apply(Gamma(), key, one), apply(Gamma(), next_key(one.placement), other)
        return x / (x + y)

    return _of(draw, (a, b), shape, dtype, placement, sbp)


def poisson(
    mean: TensorLike, shape: Shape | None = None, dtype: Any = int64, placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:  # fmt: skip
    """Poisson counts with this mean."""
    _check("poisson", "mean", mean, 0)
    return _of(lambda key, a: apply(Poisson(), key, a), (mean,), shape, dtype, placement, sbp)


def categorical(logits: TensorLike, axis: int = -1, shape: Shape = ()) -> Tensor:
    """Indices along `axis`, each with a chance proportional to the exponential of its logit.

    `shape`: of independent draws, in front of the other dimensions of `logits`. The greatest logit plus Gumbel noise.
    """
    (given,) = operands(logits)
    many = broadcast_to(given, (*_lengths((shape,)), *given.shape))
    noise = gumbel(shape=many.shape, dtype=many.dtype, placement=many.placement)
    return argmax(many + noise, axis=axis if axis < 0 else axis + many.ndim - given.ndim)


def choice(
    a: int | TensorLike, shape: Shape = (), replace: bool = True, p: TensorLike | None = None,
    placement: Placement | None = None,
) -> Tensor:  # fmt: skip
    """Elements along axis 0 of `a` (an int: of the integers below it), with chances `p` (None: equal).

    replace False: no element twice.
    """
    values = None if isinstance(a, Integral) else operands(a)[0]
    if values is not None and values.ndim == 0:
        raise ShapeError("choice among the elements of a tensor without dimensions: give an int, or an array")
    length = index(a) if values is None else values.shape[0]
    place = placement if values is None else values.placement
    lengths = _lengths((shape,))
    if not replace and prod(lengths) > length:
        raise ShapeError(f"choice of {prod(lengths)} among {length} without replacement: draw fewer, or replace=True")
    if p is None:
        picked = randint(0, length, lengths, placement=place) if replace else permutation(length, placement=place)
    else:
        chances = asarray(p, dtype="float64", placement=place)
        if chances.shape != (length,):
            raise ShapeError(f"choice among {length} with chances of shape {chances.shape}: give one for each")
        if not isinstance(p, Tensor):
            _check("choice", "p", min(p, default=0.0), 0)
        logits = log(chances) if replace else log(chances) + gumbel(shape=(length,), dtype="float64", placement=place)
        picked = categorical(logits, shape=lengths) if replace else argsort(logits, descending=True)
    if not replace:
        picked = picked[: prod(lengths)].reshape(lengths)
    return picked if values is None else take(values, picked, axis=0)


def shuffle(x: TensorLike, axis: int = 0) -> Tensor:
    """`x` with what stands along `axis` in random order."""
    (given,) = operands(x)
    along = axis_of(axis, given.ndim, "shuffle")
    return take(given, permutation(given.shape[along], placement=given.placement), axis=along)


def _check(name: str, what: str, value: TensorLike, least: float, most: float = inf) -> None:
    """ShapeError where a number is no such parameter; of a tensor nobody knows the values yet."""
    if isinstance(value, int | float | np.number) and not least <= value <= most:
        shown = "positive" if least == TINY else "at least 0" if most == inf else f"from {least} to {most}"
        raise ShapeError(f"{name} with {what}={value}: it must be {shown}")


def _of(
    draw: Callable[..., Tensor], parameters: Sequence[TensorLike], shape: Shape | None, dtype: Any,
    placement: Placement | None, sbp: SbpLike | None,
) -> Tensor:  # fmt: skip
    """What `draw` makes of a key and the parameters, in float64 and broadcast to `shape`."""
    like = next((value for value in parameters if isinstance(value, Tensor)), None)
    place = like.placement if placement is None and like is not None else placement

    def drawn(key: Tensor) -> Tensor:
        tensors = [
            asarray(x, dtype="float64", placement=None if isinstance(x, Tensor) else key.placement) for x in parameters
        ]
        whole = broadcast_shape("a distribution", [x.shape for x in tensors]) if shape is None else _lengths((shape,))
        return draw(key, *(broadcast_to(x, whole) for x in tensors)).astype(dtype)

    return _drawn(drawn, place, sbp)


def _inside(key: Tensor, shape: Sequence[int]) -> Tensor:
    """Uniform within (0, 1), in float64."""
    return draws.uniform(key, shape, "float64") * (1 - 2.0**-53) + 2.0**-54


def _drawn(draw: Callable[[Tensor], Tensor], placement: Placement | None, sbp: SbpLike | None) -> Tensor:
    """What `draw` makes of the next key; laid out as asked, or as `fc.use` says, or as the planner finds best."""
    layout = default_layout(placement, sbp)
    result = draw(next_key(layout.placement))
    is_free = sbp is None and layout.is_broadcast
    return result if is_free else to_global(result, layout.placement, layout.sbp)


def _lengths(shape: Sequence[Shape]) -> tuple[int, ...]:
    """`(3, 4)` and `((3, 4),)` alike as (3, 4)."""
    given: Any = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    lengths = tuple(index(length) for length in given)
    if any(length < 0 for length in lengths):
        raise ShapeError(f"random numbers of shape {lengths}: lengths must not be negative")
    return lengths


def _stored(name: str) -> Tensor:
    """A state tensor of this world, created at its first use."""
    store = current().store
    if name not in store:
        store[name] = _replicated(BEGIN[name])
    found: Tensor = store[name]
    return found


def _replicated(pair: tuple[int, int]) -> Tensor:
    with untraced():
        return asarray(list(pair), dtype=int64, placement=current().everyone, sbp="B")
