"""Adagrad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowcore.declared import Natural, Rate
from flowcore.errors import FlowcoreError
from flowcore.ops.row_updates import update_rows
from flowcore.ops.unary import sqrt
from flowcore.optim.optimizer import Active, Optimizer, ParamsLike, PerDType
from flowcore.placement.sbp import SbpLike
from flowcore.tensor import Tensor


class Adagrad(Optimizer):
    """p ← p − lr/(1 + (t − 1) lr_decay) · g / (sqrt(s) + eps), s the sum of all g² so far.

    Duchi, Hazan and Singer (2011), in PyTorch's order of operations. weight_decay is added to the gradient. Without it
    a row whose gradient is zero stays as it is: where the gradient is known by its rows, only these are touched.
    """

    def __init__(
        self,
        params: ParamsLike,
        lr: Rate = 1e-2,
        lr_decay: Natural = 0.0,
        weight_decay: Natural = 0.0,
        initial_accumulator_value: Natural = 0.0,
        eps: Natural = 1e-10,
        *,
        state_sbp: SbpLike | None = None,
        shard_states: str | None = None,
    ) -> None:
        options = {
            "lr_decay": lr_decay, "weight_decay": weight_decay, "initial": initial_accumulator_value, "eps": eps,
        }  # fmt: skip
        wrong = {name: value for name, value in options.items() if value < 0}
        if wrong or eps == 0:
            raise FlowcoreError(f"Adagrad with {wrong or 'eps=0'}: options are numbers from 0, and eps is above 0")
        super().__init__(params, lr, options, state_sbp, shard_states)

    def keeps_rows(self, options: Mapping[str, Any]) -> bool:
        return not options["weight_decay"]

    def update(self, active: Sequence[Active], rate: Tensor, counts: Tensor, options: Mapping[str, Any]) -> None:
        rates = PerDType(rate / (1 + (counts - 1) * options["lr_decay"]))
        for index, param, grad in active:
            (held,) = self.state_of(param, "sum", fill=options["initial"])
            step_size = rates.like(param, index)
            if grad.scattered is not None and self.keeps_rows(options):
                formulas = f"a - u * g / (sqrt(b + g * g) + {options['eps']!r})", "b + g * g"
                new, total = update_rows(formulas, (param, held), *grad.scattered, step_size)
            else:
                if options["weight_decay"]:
                    grad = grad + param * options["weight_decay"]
                total = held + grad * grad
                new = param - step_size * grad / (sqrt(total) + options["eps"])
            held.assign(total)
            param.assign(new)
