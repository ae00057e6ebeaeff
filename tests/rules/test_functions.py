"""Public functions against numpy, where they do more than apply one operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.errors import DTypeError, ShapeError
from flowcore.ops.random import bernoulli, randint

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(3, 5, 4)), RANDOM.normal(size=(5, 7))


def agree(found: Any, expected: Any) -> None:
    """Same shape, same dtype, same values."""
    got, wanted = found.numpy(), np.asarray(expected)
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(got, wanted, rtol=1e-10)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((5, 7), (7, 4)), ((7,), (7,)), ((7,), (7, 4)), ((5, 7), (7,)), ((2, 5, 7), (7, 4)), ((5, 7), (2, 7, 4)),
        ((2, 5, 7), (2, 7, 4)), ((2, 1, 5, 7), (3, 7, 4)), ((1, 5, 7), (1, 7, 4)), ((2, 5, 7), (7,)), ((7,), (2, 7, 4)),
        ((2, 3, 5, 7), (1, 1, 7, 4)),
    ],
)  # fmt: skip
def test_matmul_agrees_with_numpy(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    first, second = RANDOM.normal(size=a), RANDOM.normal(size=b)
    agree(fc.asarray(first) @ fc.asarray(second), first @ second)


def test_matmul_of_booleans_and_integers() -> None:
    a, b = Y > 0, Y.T > 0.5
    agree(fc.matmul(fc.asarray(a), fc.asarray(b)), a @ b)
    agree(fc.matmul(fc.asarray(a), fc.asarray(b.astype(np.int32))), a @ b.astype(np.int32))


def test_matmul_errors_name_the_lengths() -> None:
    with pytest.raises(ShapeError, match="both 7 and 6"):
        fc.asarray(np.ones((5, 7))) @ fc.asarray(np.ones((6, 4)))
    with pytest.raises(ShapeError, match="use multiply"):
        fc.matmul(fc.asarray(np.ones((5, 7))), 2.0)


@pytest.mark.parametrize("name", ["sum", "max", "min", "mean", "any", "all"])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2)], ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_agree_with_numpy(name: str, axis: Any, keepdims: bool) -> None:
    found = getattr(fc, name)(fc.asarray(X), axis=axis, keepdims=keepdims)
    agree(found, getattr(np, name)(X, axis=axis, keepdims=keepdims))


def test_sums_of_small_dtypes_are_wide() -> None:
    for dtype, wide in (("bool", "int64"), ("int8", "int64"), ("uint8", "uint64"), ("float32", "float32")):
        assert fc.sum(fc.asarray(np.ones(3, dtype))).dtype == wide


@pytest.mark.parametrize("axis", [None, 1, -1])
def test_argmax_agrees_with_numpy(axis: int | None) -> None:
    agree(fc.argmax(fc.asarray(X), axis=axis, keepdims=True), np.argmax(X, axis=axis, keepdims=True))
    agree(fc.argmin(fc.asarray(X), axis=axis), np.argmin(X, axis=axis))


SHAPED: dict[str, Callable[[Any, Any], Any]] = {
    "reshape": lambda m, x: m.reshape(x, (5, -1)),
    "transpose": lambda m, x: m.transpose(x),
    "permute_dims": lambda m, x: m.permute_dims(x, (2, 0, 1)),
    "expand_dims": lambda m, x: m.expand_dims(x, (0, -1)),
    "squeeze": lambda m, x: m.squeeze(m.expand_dims(x, 1)),
    "broadcast_to": lambda m, x: m.broadcast_to(x, (2, 3, 5, 4)),
    "concatenate": lambda m, x: m.concatenate([x, x], axis=-1),
    "concatenate flat": lambda m, x: m.concatenate([x, x], axis=None),
    "stack": lambda m, x: m.stack([x, x], axis=1),
    "stack last": lambda m, x: m.stack([x, x], axis=-1),
    "pad": lambda m, x: m.pad(x, ((1, 0), (0, 2), (0, 0))),
    "flip": lambda m, x: m.flip(x, axis=1),
    "flip all": lambda m, x: m.flip(x),
    "take": lambda m, x: m.take(x, np.array([3, 0, -1]), axis=2),
    "take flat": lambda m, x: m.take(x, np.array([30, 0])),
    "take_along_axis": lambda m, x: m.take_along_axis(x, np.ones((3, 2, 4), np.int64), axis=1),
    "take_along_last": lambda m, x: m.take_along_axis(x, np.ones((3, 5, 1), np.int64), axis=-1),
    "tensordot": lambda m, x: m.tensordot(x, Y, axes=([1], [0])),
    "tensordot all": lambda m, x: m.tensordot(x, x, axes=3),
    "where": lambda m, x: m.where(x > 0, x, 0.0),
    "square": lambda m, x: m.square(x),
    "maximum": lambda m, x: m.maximum(x, 0.0),
}


@pytest.mark.parametrize("name", SHAPED)
def test_shape_functions_agree_with_numpy(name: str) -> None:
    agree(SHAPED[name](fc, fc.asarray(X)), SHAPED[name](np, X))


def test_creation_agrees_with_numpy() -> None:
    agree(fc.arange(7), np.arange(7))
    agree(fc.arange(9, 2, -2), np.arange(9, 2, -2))
    agree(fc.arange(0.5, 2, 0.25, dtype="float64"), np.arange(0.5, 2, 0.25))
    agree(fc.linspace(0, 1, 5, dtype="float64"), np.linspace(0, 1, 5))
    agree(fc.linspace(0, 1, 4, endpoint=False, dtype="float64"), np.linspace(0, 1, 4, endpoint=False))
    agree(fc.eye(3, 4, k=1), np.eye(3, 4, k=1, dtype=np.float32))
    agree(fc.full((2, 3), 7), np.full((2, 3), 7))
    agree(fc.zeros(3), np.zeros(3, np.float32))
    agree(fc.one_hot(fc.asarray(np.array([[2], [0]])), 3), np.eye(3, dtype=np.float32)[[[2], [0]]])


def test_dtypes_of_mixed_operands() -> None:
    whole, single = fc.asarray(np.arange(3, dtype=np.int32)), fc.asarray(np.ones(3, np.float32))
    assert (whole / 2).dtype == np.float32 and (whole // 2).dtype == np.int32 and (whole * 2.5).dtype == np.float32
    assert (single + 1).dtype == np.float32 and (single > 0).dtype == np.bool_ and fc.exp(whole).dtype == np.float32
    agree(fc.floor(whole), np.arange(3, dtype=np.int32))
    assert fc.floor(whole) is not whole  # assigning to one must not change the other
    with pytest.raises(DTypeError, match="cast with astype"):
        fc.asarray(np.array([True])) + fc.asarray(np.array([True]))


def test_division_rounds_as_numpy() -> None:
    a, b = np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2])
    agree(fc.asarray(a) // fc.asarray(b), a // b)
    agree(fc.asarray(a) % fc.asarray(b), a % b)


def test_random_integers_and_booleans_are_in_range() -> None:
    key = fc.asarray(np.array([1, 2]))
    drawn = randint(key, -3, 4, (1000,)).numpy()
    assert set(drawn.tolist()) == set(range(-3, 4))
    assert abs(bernoulli(key, 0.25, (4000,)).numpy().mean() - 0.25) < 0.03
