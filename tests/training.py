"""The training step of a small model, for tests of what becomes of it: of its memory, its transfers, its overhead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import flowcore as fc


def perceptron(
    widths: tuple[int, int, int],
    rows: int,
    activation: type[fc.nn.Module] = fc.nn.ReLU,
    *,
    placement: fc.Placement | None = None,
    parameters: str = "B",
    **options: Any,
) -> tuple[fc.nn.Module, Callable[..., fc.Tensor]]:
    """(model, step) for AdamW with `options` on the same examples again and again, on `placement` split by rows.

    `parameters`: how they lie there.
    `step(scale)` multiplies the scores by `scale`, 1 unless said otherwise, and returns the loss.
    """
    fc.manual_seed(0)
    model = fc.nn.Sequential(fc.nn.Linear(*widths[:2]), activation(), fc.nn.Linear(*widths[1:]))
    if placement is not None:
        model.place(placement, {"*": parameters})
    opt = fc.optim.AdamW(model.parameters(), **options)
    draw, sbp = np.random.default_rng(0), None if placement is None else "S0"
    x = fc.asarray(draw.normal(size=(rows, widths[0])).astype("float32"), placement=placement, sbp=sbp)
    y = fc.asarray(draw.integers(widths[-1], size=rows), placement=placement, sbp=sbp)

    def step(scale: float = 1.0) -> fc.Tensor:
        loss = fc.nn.cross_entropy(model(x) * scale, y)
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    return model, step
