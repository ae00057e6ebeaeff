"""Pooling and interpolation agree with loops over windows in numpy, in all options, on every split."""

from __future__ import annotations

from itertools import product
from math import ceil, floor
from typing import Any

import numpy as np
import pytest

import flowcore as fc

Array = np.ndarray[Any, Any]
X = {
    n: np.random.default_rng(n).normal(size=shape)
    for n, shape in {1: (2, 3, 11), 2: (2, 3, 9, 7), 3: (1, 2, 6, 5, 4)}.items()
}
LAYOUTS = ("B", "S0", "S1", "S2", "P")


def pooled(x: Array, windows: list[list[list[int]]], reduce: Any) -> Array:
    """`reduce` of every window; windows[d][p]: the rows of dimension d that row p sees."""
    y = np.zeros((*x.shape[:2], *map(len, windows)))
    for at in product(*(range(len(rows)) for rows in windows)):
        seen = x[(slice(None), slice(None), *np.ix_(*(rows[p] for rows, p in zip(windows, at, strict=True))))]
        y[(slice(None), slice(None), *at)] = reduce(seen.reshape(*x.shape[:2], -1))
    return y


def rows(length: int, k: int, s: int, p: int, d: int, is_ceil: bool) -> list[list[int]]:
    """The rows that every window sees, by PyTorch's rule for their number."""
    count = (ceil if is_ceil else floor)((length + 2 * p - d * (k - 1) - 1) / s) + 1
    if is_ceil and (count - 1) * s >= length + p:
        count -= 1
    return [[i for i in (o * s + t * d - p for t in range(k)) if 0 <= i < length] for o in range(count)]


OPTIONS = tuple(
    dict(zip(("kernel_size", "stride", "padding", "ceil_mode"), case, strict=True))
    for case in ((2, None, 0, False), (3, 2, 1, False), (3, 2, 0, True), (3, 3, 1, True), (4, 1, 2, False))
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_max_pooling_agrees_with_the_windows(spatial: int, options: dict[str, Any]) -> None:
    f = (fc.nn.max_pool1d, fc.nn.max_pool2d, fc.nn.max_pool3d)[spatial - 1]
    x = X[spatial]
    for dilation in (1, 2) if spatial == 1 else (1,):
        k, s, p, is_ceil = options.values()
        windows = [rows(length, k, s or k, p, dilation, is_ceil) for length in x.shape[2:]]
        expected = pooled(x, windows, lambda seen: seen.max(-1))
        np.testing.assert_array_equal(f(fc.asarray(x), **options, dilation=dilation).numpy(), expected)
        np.testing.assert_array_equal(f(fc.asarray(x[0]), **options, dilation=dilation).numpy(), expected[0])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("is_padded", [False, True])
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_average_pooling_agrees_with_the_windows(spatial: int, is_padded: bool, options: dict[str, Any]) -> None:
    f = (fc.nn.avg_pool1d, fc.nn.avg_pool2d, fc.nn.avg_pool3d)[spatial - 1]
    x, (k, s, p, is_ceil) = X[spatial], options.values()
    expected = pooled(x, [rows(length, k, s or k, p, 1, is_ceil) for length in x.shape[2:]], lambda seen: seen.sum(-1))
    counts = np.ones(())
    for length, outs in zip(x.shape[2:], expected.shape[2:], strict=True):
        low, high = (-p, length + p) if is_padded else (0, length)
        own = [min(o * (s or k) - p + k, high) - max(o * (s or k) - p, low) for o in range(outs)]
        counts = counts[..., None] * own
    found = f(fc.asarray(x), **options, count_include_pad=is_padded).numpy()
    np.testing.assert_allclose(found, expected / counts, atol=1e-12)
    np.testing.assert_allclose(f(fc.asarray(x), **options, divisor_override=3).numpy(), expected / 3, atol=1e-12)


@pytest.mark.parametrize(("spatial", "size"), [(1, 4), (1, 11), (2, (3, None)), (2, (4, 5)), (2, 1), (3, (3, 5, 2))])
def test_adaptive_pooling_agrees_with_the_windows(spatial: int, size: Any) -> None:
    x = X[spatial]
    lengths = [
        length if own is None else own for own, length in zip(np.broadcast_to(size, spatial), x.shape[2:], strict=True)
    ]
    windows = [
        [list(range(p * length // n, -(-(p + 1) * length // n))) for p in range(n)]
        for n, length in zip(lengths, x.shape[2:], strict=True)
    ]
    for kind, reduce in (("avg", lambda seen: seen.mean(-1)), ("max", lambda seen: seen.max(-1))):
        found = getattr(fc.nn, f"adaptive_{kind}_pool{spatial}d")(fc.asarray(x), size)
        np.testing.assert_allclose(found.numpy(), pooled(x, windows, reduce), atol=1e-12)


def test_the_gradient_of_a_maximum_goes_to_the_first_and_nan_is_greatest() -> None:
    x = fc.asarray(np.array([[[2.0, 2.0, 1.0, 1.0, 3.0]]]))
    (found,) = fc.vjp(lambda x: fc.nn.max_pool1d(x, 2, 1), x)[1](fc.asarray(np.ones((1, 1, 4))))
    np.testing.assert_array_equal(found.numpy(), [[[1, 1, 1, 0, 1]]])
    special = fc.asarray(np.array([[[1.0, np.nan, 2.0, -np.inf, -np.inf, -np.inf]]]))
    np.testing.assert_array_equal(fc.nn.max_pool1d(special, 3, 3, padding=1).numpy(), [[[np.nan, 2.0]]])
    np.testing.assert_array_equal(fc.nn.max_pool1d(special, 2, 2).numpy(), [[[np.nan, 2.0, -np.inf]]])


def test_pooling_is_equal_on_every_split() -> None:
    x = X[2]

    def program() -> list[list[Array]]:
        given = [fc.asarray(x, sbp=sbp) for sbp in LAYOUTS]
        made = []
        for f in (
            lambda x: fc.nn.max_pool2d(x, 3, 2, 1),
            lambda x: fc.nn.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
            lambda x: fc.nn.adaptive_avg_pool2d(x, (4, 3)),
            lambda x: fc.nn.adaptive_max_pool2d(x, (4, 3)),
            lambda x: fc.nn.interpolate(x, scale_factor=1.5, mode="bilinear"),
        ):
            made.append([item.numpy() for x in given for item in (f(x), fc.grad(lambda x, f=f: (f(x) ** 2).sum())(x))])
        return made

    for found in fc.launch.run(program, ranks=3, transport="threads")[0]:
        for value, gradient in zip(found[2::2], found[3::2], strict=True):
            np.testing.assert_allclose(value, found[0], atol=1e-12)
            np.testing.assert_allclose(gradient, found[1], atol=1e-12)


def test_pooling_split_in_space_moves_only_halos() -> None:
    def program() -> Any:
        x = fc.asarray(np.ones((2, 3, 16, 5)), sbp="S2")
        overlap = fc.compile(lambda x: fc.nn.max_pool2d(x, 3, 1, 1)).plan(x)
        apart = fc.compile(lambda x: fc.nn.avg_pool2d(x, 2)).plan(x)
        return overlap.transfers, apart.transfers

    overlap, apart = fc.launch.run(program, ranks=4, transport="threads")[0]
    assert [(t.kind, t.bytes) for t in overlap] == [("halo", 6 * 2 * 3 * 5 * 8)]  # once for both of its operators
    assert not apart


def linear(x: Array, axis: int, n: int, corners: bool, scale: float) -> Array:
    """One dimension by its definition, as np.interp sees it."""
    length = x.shape[axis]
    source = (
        np.arange(n) * (length - 1) / max(n - 1, 1) if corners else np.maximum((np.arange(n) + 0.5) * scale - 0.5, 0)
    )
    return np.apply_along_axis(lambda line: np.interp(source, np.arange(length), line), axis, x)


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize(
    ("spatial", "size", "factor"), [(1, 20, None), (1, 4, None), (2, (5, 13), None), (2, None, 1.7), (3, 7, None)]
)
def test_linear_interpolation_agrees_with_numpy(spatial: int, size: Any, factor: Any, corners: bool) -> None:
    x = X[spatial]
    mode = ("linear", "bilinear", "trilinear")[spatial - 1]
    found = fc.nn.interpolate(fc.asarray(x), size, factor, mode, corners).numpy()
    expected = x
    for axis, length in enumerate(x.shape[2:], 2):
        n = floor(length * factor) if factor else int(np.broadcast_to(size, spatial)[axis - 2])
        expected = linear(expected, axis, n, corners, 1 / factor if factor else length / n)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_nearest_cubic_and_area_interpolation() -> None:
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    np.testing.assert_array_equal(
        fc.nn.interpolate(fc.asarray(x), scale_factor=2).numpy(), x.repeat(2, axis=2).repeat(2, axis=3)
    )
    np.testing.assert_array_equal(
        fc.nn.interpolate(fc.asarray(x), size=(2, 3)).numpy(), x[:, :, [0, 1]][..., [0, 1, 2]]
    )
    np.testing.assert_allclose(fc.nn.interpolate(fc.asarray(x), (1, 2), mode="area").numpy(), [[[[4.5, 6.5]]]])
    # a cubic interpolation goes through every point, and weights sum to one
    fine = fc.nn.interpolate(fc.asarray(x), (5, 7), mode="bicubic", align_corners=True).numpy()
    np.testing.assert_allclose(fine[:, :, ::2, ::2], x, atol=1e-12)
    flat = fc.nn.interpolate(fc.ones((1, 1, 3, 4), dtype="float64"), scale_factor=1.3, mode="bicubic").numpy()
    np.testing.assert_allclose(flat, 1, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: fc.nn.max_pool2d(x, 2, padding=2), "more than half"),
        (lambda x: fc.nn.max_pool2d(x, 20), "pad more"),
        (lambda x: fc.nn.max_pool1d(x, 2), "takes"),
        (lambda x: fc.nn.avg_pool2d(x, 2, divisor_override=0), "divisor_override"),
        (lambda x: fc.nn.adaptive_avg_pool2d(x, (1, 2, 3)), "give 2 lengths"),
        (lambda x: fc.nn.interpolate(x), "either size or scale_factor"),
        (lambda x: fc.nn.interpolate(x, 3, mode="linear"), "choose 'bilinear'"),
        (lambda x: fc.nn.interpolate(x, 3, mode="lanczos"), "unknown mode"),
        (lambda x: fc.nn.interpolate(x, 3, align_corners=True), "linear and cubic"),
        (lambda x: fc.nn.interpolate(x, scale_factor=0.01), "no row is left"),
        (lambda x: fc.nn.max_pool2d(x.astype("complex128"), 2), "have an order"),
    ],
)
def test_what_does_not_fit_is_an_error(call: Any, message: str) -> None:
    with pytest.raises(fc.FlowcoreError, match=message):
        call(fc.asarray(X[2]))


def test_layers_are_their_functions() -> None:
    x = fc.asarray(X[2])
    for layer, expected in (
        (fc.nn.MaxPool2d(3, 2, 1), fc.nn.max_pool2d(x, 3, 2, 1)),
        (fc.nn.AvgPool2d(3, 2, 1, True, False), fc.nn.avg_pool2d(x, 3, 2, 1, True, False)),
        (fc.nn.AdaptiveAvgPool2d((2, None)), fc.nn.adaptive_avg_pool2d(x, (2, None))),
        (fc.nn.AdaptiveMaxPool2d(2), fc.nn.adaptive_max_pool2d(x, 2)),
        (fc.nn.Upsample(scale_factor=2, mode="bilinear"), fc.nn.interpolate(x, scale_factor=2, mode="bilinear")),
    ):
        np.testing.assert_array_equal(layer(x).numpy(), expected.numpy())
        assert repr(layer).startswith(type(layer).__name__)
