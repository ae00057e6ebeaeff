"""The loss over alignments agrees with the sum over every one of them, with its gradient, on every layout."""

from __future__ import annotations

from itertools import groupby, product
from typing import Any

import numpy as np
import pytest

import flowcore as fc

Array = np.ndarray[Any, Any]
STEPS, CLASSES = 5, 3
X = np.random.default_rng(0).normal(size=(STEPS, 4, CLASSES))
TARGETS, INPUTS, LENGTHS = np.array([[1, 2], [1, 1], [2, 0], [1, 1]]), np.array([5, 4, 3, 2]), np.array([2, 2, 1, 2])


def losses(x: Array) -> Array:
    """−log Σ over all sequences of classes that collapse to the target."""
    logs = x - np.log(np.exp(x).sum(-1, keepdims=True))
    found = []
    for row, (steps, count) in enumerate(zip(INPUTS, LENGTHS, strict=True)):
        wanted, total = tuple(TARGETS[row, :count]), 0.0
        for way in product(range(CLASSES), repeat=steps):
            if tuple(label for label, _ in groupby(way) if label) == wanted:
                total += np.exp(sum(logs[t, row, label] for t, label in enumerate(way)))
        found.append(-np.log(total) if total else np.inf)
    return np.array(found)


def ours(x: fc.Tensor, **options: Any) -> fc.Tensor:
    return fc.nn.ctc_loss(fc.nn.log_softmax(x), *map(fc.asarray, (TARGETS, INPUTS, LENGTHS)), **options)


def test_it_is_the_sum_over_all_alignments() -> None:
    expected = losses(X)
    assert np.isinf(expected).tolist() == [False, False, False, True]  # two equal labels need a blank between them
    finite = np.where(np.isinf(expected), 0, expected)

    def program() -> list[Array]:
        made = []
        for sbp in ("B", "S1", "P"):
            x = fc.asarray(X, sbp=sbp)
            slope = fc.grad(lambda x: ours(x, zero_infinity=True))(x)
            made.append((ours(x, reduction="none").numpy(), ours(x, zero_infinity=True).item(), slope.numpy()))
        return made

    direction, step = np.random.default_rng(1).normal(size=X.shape), 1e-6
    ends = [np.where(np.isinf(expected), 0, losses(X + sign * step * direction)) / LENGTHS for sign in (1, -1)]
    for value, mean, slope in fc.launch.run(program, ranks=2)[1]:
        np.testing.assert_allclose(value, expected, atol=1e-10)
        assert mean == pytest.approx((finite / LENGTHS).mean(), rel=1e-10)
        assert np.isfinite(slope).all()
        assert np.vdot(slope, direction) == pytest.approx((ends[0] - ends[1]).mean() / (2 * step), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, t, n: fc.nn.ctc_loss(x, t, n, n[:2]), "it takes"),
        (lambda x, t, n: fc.nn.ctc_loss(x, t.astype("float32"), n, n), "no integers"),
        (lambda x, t, n: fc.nn.ctc_loss(x, t + 5, n, n), "outside 0..2"),
    ],
)
def test_what_does_not_fit_is_an_error(call: Any, message: str) -> None:
    with pytest.raises(fc.FlowcoreError, match=message):
        call(*map(fc.asarray, (X, TARGETS, INPUTS)))
