"""Compiled convolutions of channels-last blocks equal numpy's in every option, by whichever method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowcore.convolved import Convolved, is_available
from flowcore.op import Array, Type
from flowcore.ops.patches import form_product
from flowcore.passes.channels_last import order

pytestmark = pytest.mark.skipif(
    not is_available(), reason="numba, or a BLAS of numpy's that is known, is not installed"
)

CASES: dict[str, tuple[Any, ...]] = {
    # n, groups (0: none), c, o; spatial lengths of x; taps; strides; dilations; zeros before; lengths of y, if cut
    "plain": (2, 0, 3, 5, (8, 9), (3, 3), (1, 1), (1, 1), (1, 1)),
    "no padding": (2, 0, 17, 16, (7, 6), (3, 3), (1, 1), (1, 1), (0, 0)),
    "wide padding": (1, 0, 4, 33, (5, 9), (3, 3), (1, 1), (1, 1), (2, 3)),
    "part of a picture": (2, 0, 3, 4, (6, 8), (3, 3), (1, 1), (1, 1), (-2, 4), (9, 5)),
    "one pixel": (3, 0, 2, 2, (1, 1), (3, 3), (1, 1), (1, 1), (1, 1)),
    "many tiles": (17, 0, 3, 2, (9, 9), (3, 3), (1, 1), (1, 1), (1, 1)),
    "stride": (2, 0, 3, 5, (9, 8), (3, 3), (2, 2), (1, 1), (1, 1)),
    "stride, part of a picture": (2, 0, 3, 4, (9, 17), (3, 3), (2, 2), (1, 1), (-1, 2), (4, 8)),
    "stride, parities": (1, 0, 17, 2, (16, 15), (3, 3), (2, 2), (1, 1), (0, 1)),
    "dilation": (2, 0, 3, 5, (9, 8), (3, 2), (1, 2), (2, 3), (1, 2)),
    "taps of one": (2, 0, 3, 5, (4, 4), (1, 1), (1, 1), (1, 1), (0, 0)),
    "taps of one, stride": (2, 0, 3, 5, (5, 4), (1, 1), (2, 2), (1, 1), (0, 0)),
    "taps of one, padding": (2, 0, 3, 5, (5, 4), (1, 1), (1, 1), (1, 1), (1, 0)),
    "more taps than pixels": (2, 0, 2, 2, (2, 2), (7, 7), (1, 1), (1, 1), (3, 3)),
    "many patches": (40, 0, 2, 3, (8, 8), (2, 2), (1, 1), (1, 1), (0, 0)),
    "groups": (2, 2, 3, 4, (5, 6), (3, 3), (1, 1), (1, 1), (1, 1)),
    "depthwise": (2, 5, 1, 1, (6, 5), (3, 3), (2, 1), (1, 1), (1, 1)),
    "one dimension": (2, 0, 3, 4, (11,), (3,), (2,), (1,), (1,)),
    "three dimensions": (2, 0, 2, 3, (3, 4, 5), (2, 3, 2), (1, 2, 1), (1, 1, 2), (0, 1, 1)),
}
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def turned(x: Array, channels: int) -> Array:
    """Channels last."""
    return np.ascontiguousarray(x.transpose(order(x.ndim, channels)))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_every_form_and_both_gradients_equal_those_of_numpy(name: str, dtype: str) -> None:
    n, groups, c, o, length, taps, strides, dilations, before, *cut = CASES[name]
    rows = cut[0] if cut else tuple(
        (x + 2 * pad - d * (k - 1) - 1) // s + 1
        for x, k, s, d, pad in zip(length, taps, strides, dilations, before, strict=True)
    )  # fmt: skip
    random, lead = np.random.default_rng(0), (groups,) * bool(groups)
    tensors = {
        "x": random.normal(size=(n, *lead, c, *length)),
        "y": random.normal(size=(n, *lead, o, *rows)),
        "w": random.normal(size=(*lead, o, c, *taps)),
    }
    terms = {"x": "ngc", "w": "goc", "y": "ngo"} if groups else {"x": "nc", "w": "oc", "y": "no"}
    lengths = {"x": length, "y": rows, "w": taps}
    for result in "xyw":
        given = {role: tensor for role, tensor in tensors.items() if role != result}
        expected = form_product(terms, given, result, lengths[result], strides, dilations, before)
        op = Convolved(result, bool(groups), lengths[result], strides, dilations, before)
        operands = [
            (tensor if role == "w" else turned(tensor, 1 + bool(groups))).astype(dtype)
            for role in "xyw" if (tensor := given.get(role)) is not None
        ]  # fmt: skip
        (type,) = op.infer(*(Type(array.shape, array.dtype) for array in operands))
        made = op.kernel(*operands)
        wanted = expected if result == "w" else turned(expected, 1 + bool(groups))
        assert (made.shape, made.dtype) == (type.shape, type.dtype) and made.shape == wanted.shape
        scale = float(np.sqrt((expected**2).mean())) or 1.0
        np.testing.assert_allclose(made, wanted, rtol=0, atol=TOLERANCE[dtype] * scale * 3)
