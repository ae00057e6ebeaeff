"""The distinct elements of a tensor; how many there are depends on its values, so not inside a traced function."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowcore.dispatch import operands, to_global
from flowcore.op import function
from flowcore.ops.dynamic import replicated, whole
from flowcore.ops.gather import take
from flowcore.placement.sbp import B
from flowcore.tensor import Tensor, TensorLike

__all__ = ["unique_all", "unique_counts", "unique_inverse", "unique_values"]


class UniqueAll(NamedTuple):
    """The distinct elements; where each stands first; which of them every element is; how often each stands there."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """The distinct elements, and how often each stands there."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """The distinct elements, and which of them every element is."""

    values: Tensor
    inverse_indices: Tensor


@function
def unique_all(x: TensorLike, /) -> UniqueAll:
    """The distinct elements of x, flattened, in order, with all that is known of them; every nan is one of its own.

    Gradients flow to the first of equal elements.
    """
    (tensor,) = operands(x)
    array = whole(tensor, "unique", "call it outside the compiled function, or use sort, which keeps the shape")
    _, first, inverse, counts = np.unique(
        array.reshape(-1), return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    indices = replicated(first, tensor)
    values = to_global(take(tensor, indices), sbp=B)
    return UniqueAll(values, indices, replicated(inverse.reshape(tensor.shape), tensor), replicated(counts, tensor))


@function
def unique_counts(x: TensorLike, /) -> UniqueCounts:
    """The distinct elements of x and how often each stands there; see `unique_all`."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


@function
def unique_inverse(x: TensorLike, /) -> UniqueInverse:
    """The distinct elements of x and which of them every element is: values[inverse_indices] is x; see `unique_all`."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


@function
def unique_values(x: TensorLike, /) -> Tensor:
    """The distinct elements of x, in order; see `unique_all`."""
    return unique_all(x).values
