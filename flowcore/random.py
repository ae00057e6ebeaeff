"""Random tensors from a state of two numbers: (seed, how many draws were made).

An element of a draw depends on the seed, the number of the draw and the element's index alone, so it is the same on
every layout and any number of ranks (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). The state is
a replicated tensor: in a compiled function it is read and advanced like any other state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import index
from typing import Any

from flowcore.dispatch import asarray, default_layout, to_global
from flowcore.dtypes import float32, int64
from flowcore.errors import CheckpointError
from flowcore.grad import no_grad
from flowcore.ops import permutation as orders
from flowcore.ops import random as draws
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import SbpLike
from flowcore.tensor import Tensor, TensorLike
from flowcore.untraced import untraced
from flowcore.world import current

KEY, STEP = "random.key", "random.step"
BEGIN = {KEY: (0, 0), STEP: (0, 1)}
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
    low: float,
    high: float,
    shape: Shape = (),
    dtype: Any = float32,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """Evenly spread over [low, high)."""
    return _drawn(lambda key: draws.uniform(key, _lengths((shape,)), dtype) * (high - low) + low, placement, sbp)


def normal(
    mean: float,
    std: float,
    shape: Shape = (),
    dtype: Any = float32,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """Normally distributed with this mean and standard deviation."""
    return _drawn(lambda key: draws.normal(key, _lengths((shape,)), dtype) * std + mean, placement, sbp)


def randint(
    low: int,
    high: int,
    shape: Shape = (),
    dtype: Any = int64,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:
    """Integers from low to high − 1, equally likely."""
    return _drawn(lambda key: draws.randint(key, low, high, _lengths((shape,)), dtype), placement, sbp)


def bernoulli(
    probability: TensorLike, shape: Shape, placement: Placement | None = None, sbp: SbpLike | None = None
) -> Tensor:
    """True with `probability`, which broadcasts to `shape`."""
    return _drawn(lambda key: draws.bernoulli(key, probability, _lengths((shape,))), placement, sbp)


def permutation(length: int, placement: Placement | None = None, sbp: SbpLike | None = None) -> Tensor:
    """The integers below `length` in random order."""
    return _drawn(lambda key: orders.permutation(key, length), placement, sbp)


def _drawn(draw: Callable[[Tensor], Tensor], placement: Placement | None, sbp: SbpLike | None) -> Tensor:
    """What `draw` makes of the next key; laid out as asked, or as `fc.use` says, or as the planner finds best."""
    layout = default_layout(placement, sbp)
    result = draw(next_key(layout.placement))
    is_free = sbp is None and layout.is_broadcast
    return result if is_free else to_global(result, layout.placement, layout.sbp)


def _lengths(shape: Sequence[Shape]) -> tuple[int, ...]:
    """`(3, 4)` and `((3, 4),)` alike as (3, 4)."""
    given: Any = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    return tuple(index(length) for length in given)


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
