"""Adam for tables of which a batch names few rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowcore.declared import Natural, Rate
from flowcore.errors import FlowcoreError
from flowcore.ops.arithmetic import power
from flowcore.ops.row_updates import update_rows
from flowcore.ops.unary import sqrt
from flowcore.optim.optimizer import Active, Optimizer, ParamsLike, PerDType
from flowcore.placement.sbp import SbpLike
from flowcore.tensor import Tensor


class SparseAdam(Optimizer):
    """Adam of the rows that have a gradient alone; the moments of all others wait, as PyTorch's optimizer of this name.

    For these rows m ← m + (1 − β₁)(g − m), v ← v + (1 − β₂)(g² − v), and
    p ← p − lr sqrt(1 − β₂ᵗ)/(1 − β₁ᵗ) · m / (sqrt(v) + eps), where g is the sum of a row's gradients and t counts all
    steps, not those of the row. Kingma and Ba, arXiv:1412.6980.
    """

    def __init__(
        self,
        params: ParamsLike,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: Natural = 1e-8,
        *,
        state_sbp: SbpLike | None = None,
    ) -> None:
        if not all(0 <= beta < 1 for beta in betas):
            raise FlowcoreError(f"betas={betas}: both lie in [0, 1)")
        if eps <= 0:
            raise FlowcoreError(f"eps={eps}: it is above 0")
        super().__init__(params, lr, {"betas": tuple(betas), "eps": eps}, state_sbp)

    def keeps_rows(self, options: Mapping[str, Any]) -> bool:
        return True

    def update(self, active: Sequence[Active], rate: Tensor, counts: Tensor, options: Mapping[str, Any]) -> None:
        beta1, beta2 = options["betas"]
        step_size = PerDType(rate * sqrt(1 - power(beta2, counts)) / (1 - power(beta1, counts)))
        mean, square = f"(b + (g - b) * {1 - beta1!r})", f"(c + (g * g - c) * {1 - beta2!r})"
        formulas = f"a - u * {mean} / (sqrt({square}) + {options['eps']!r})", mean, square
        for index, param, grad in active:
            if grad.scattered is None:
                raise FlowcoreError(
                    f"SparseAdam of a parameter of shape {param.shape} whose gradient is not known by its rows: it is "
                    f"for tables that only take() and nn.Embedding read, directly and in this step; take Adam"
                )
            held = self.state_of(param, "exp_avg", "exp_avg_sq")
            found = update_rows(formulas, (param, *held), *grad.scattered, step_size.like(param, index))
            for tensor, new in zip((param, *held), found, strict=True):
                tensor.assign(new)
