"""Fourier transforms against numpy: lengths, norms, dtypes, placements; and what they cannot do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.launch import run

F, N = fc.fft, np.fft
NORMS = ("backward", "ortho", "forward", None)
ONE = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
MANY = ("fftn", "ifftn", "rfftn", "irfftn", "fft2", "ifft2", "rfft2", "irfft2")
REAL = ("rfft", "ihfft", "rfftn", "rfft2")
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {"norm": norm}) for name in ONE + MANY for norm in NORMS),
    *((name, {"n": n, "axis": axis}) for name in ONE for n in (1, 2, 3, 6, 7) for axis in (0, -1)),
    *((name, {"axes": axes}) for name in MANY for axes in ((0, 1), (1, 0), (-1, 0))),
    *((name, {"s": (4, 3), "axes": axes}) for name in MANY for axes in ((0, 2), (2, 1))),
    *((name, {"s": (-1, 7), "axes": (1, 0)}) for name in MANY),
]
SHOWN = [f"{name} {options}" for name, options in OPTIONS]


def drawn(name: str, dtype: str = "complex128", shape: tuple[int, ...] = (3, 5, 4)) -> Any:
    random = np.random.default_rng(3)
    value = random.normal(size=shape) + 1j * random.normal(size=shape)
    return value.real.astype(np.zeros(0, dtype).real.dtype) if name in REAL else value.astype(dtype)


def agree(found: Any, expected: Any) -> None:
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    tolerance = 1e-10 if expected.dtype in ("float64", "complex128") else 1e-4
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=SHOWN)
def test_transforms_agree_with_numpy(name: str, options: dict[str, Any], dtype: str) -> None:
    x = drawn(name, dtype)
    agree(getattr(F, name)(fc.asarray(x), **options).numpy(), getattr(N, name)(x, **options))


@pytest.mark.parametrize("name", [*ONE, "fftn", "ifftn", "irfftn"])
def test_real_numbers_are_transformed_as_complex_ones(name: str) -> None:
    for dtype in ("float32", "float64"):
        x = drawn(name).real.astype(dtype)
        agree(getattr(F, name)(fc.asarray(x)).numpy(), getattr(N, name)(x))


@pytest.mark.parametrize("name", ONE + MANY)
def test_an_empty_batch_gives_an_empty_result(name: str) -> None:
    x, axes = drawn(name, shape=(0, 3, 4)), {"axes": (1, 2)} if name in MANY else {}
    agree(getattr(F, name)(fc.asarray(x), **axes).numpy(), getattr(N, name)(x, **axes))


def layouts() -> list[tuple[Any, Any]]:
    line, grid = fc.Placement(3), fc.Placement([[0, 1], [2, 3]])
    split = [(line, fc.S(axis)) for axis in range(3)]
    return [*split, (line, fc.P), (grid, (fc.S(1), fc.P)), (grid, (fc.P, fc.S(2)))]


def everywhere(name: str) -> bool:
    x = drawn(name)
    for placement, sbp in layouts():
        if fc.rank() in placement.ranks:
            agree(getattr(F, name)(fc.asarray(x, placement=placement, sbp=sbp)).numpy(), getattr(N, name)(x))
    return True


@pytest.mark.parametrize("name", ONE + MANY)
def test_transforms_are_the_same_on_every_placement(name: str) -> None:
    assert all(run(everywhere, ranks=4, args=(name,)))


def test_terms_of_a_sum_and_split_batches_are_transformed_where_they_lie() -> None:
    def told() -> list[str]:
        x = drawn("fft")
        return [str(F.fft(fc.asarray(x, sbp=sbp)).sbp) for sbp in (fc.P, fc.S(0), fc.S(1))]

    for found in run(told, ranks=2):
        assert found == [str((sbp,)) for sbp in (fc.P, fc.S(0), fc.S(1))]


@pytest.mark.parametrize("name", ONE + MANY)
def test_gradients_agree_with_differences(name: str) -> None:
    random, f, step = np.random.default_rng(0), getattr(F, name), 1e-6
    x, direction = drawn(name), np.roll(drawn(name), 1, 0)
    weights = random.normal(size=f(fc.asarray(x)).shape) + 1j

    def loss(x: Any) -> Any:
        y = f(x)
        return fc.sum(fc.real(y * y * weights))

    slope = np.vdot(direction, fc.grad(loss)(fc.asarray(x)).numpy()).real
    ahead, behind = (loss(fc.asarray(x + sign * step * direction)).item() for sign in (1, -1))
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-6, abs=1e-5)


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_frequencies_and_shifts_agree_with_numpy(n: int) -> None:
    for name in ("fftfreq", "rfftfreq"):
        for dtype in ("float32", "float64"):
            expected = getattr(N, name)(n, d=0.3).astype(dtype)
            np.testing.assert_allclose(getattr(F, name)(n, d=0.3, dtype=dtype).numpy(), expected, rtol=3e-7)
        assert getattr(F, name)(n).dtype == np.float32
    x = np.arange(n * 3 * 4).reshape(n, 3, 4)
    for name in ("fftshift", "ifftshift"):
        for axes in (None, 0, -1, (0, 2)):
            agree(getattr(F, name)(fc.asarray(x), axes=axes).numpy(), getattr(N, name)(x, axes=axes))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: F.fft(x, n=0), fc.ShapeError, "give lengths of 1 or more"),
        (lambda x: F.fft(x, axis=2), fc.ShapeError, "the tensor has 2 dimensions"),
        (lambda x: F.fft(x, norm="unit"), fc.ShapeError, "give one of 'backward', 'ortho', 'forward'"),
        (lambda x: F.fftn(x, axes=(0, -2)), fc.ShapeError, "name each axis and its length once"),
        (lambda x: F.fftn(x, s=(2,), axes=(0, 1)), fc.ShapeError, "name each axis and its length once"),
        (lambda x: F.irfft(x[:, :1]), fc.ShapeError, "give n, 1 or more"),
        (lambda x: F.fft(x[:, :0]), fc.ShapeError, "1 or more"),
        (lambda x: F.rfft(x * 1j), fc.DTypeError, "take real, or use fftn"),
        (lambda x: F.fftfreq(0), fc.ShapeError, "give 1 or more"),
        (lambda x: F.fftfreq(3, dtype="int64"), fc.DTypeError, "real floating"),
    ],
)
def test_what_cannot_be_transformed_is_named(call: Callable[[Any], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(fc.ones((2, 3)))
