"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowcore.declared import Finite, Natural, Rate
from flowcore.errors import FlowcoreError
from flowcore.optim.optimizer import Active, Optimizer, ParamsLike, PerDType
from flowcore.placement.sbp import SbpLike
from flowcore.tensor import Tensor


class SGD(Optimizer):
    """p ← p − lr · d, with d = g + weight_decay · p, or with momentum μ: b ← μ b + (1 − dampening) d, then d = b.

    nesterov: d = g + μ b. At the first step of a parameter b = d, whatever the dampening. As in PyTorch; momentum
    after Sutskever et al. (2013).
    """

    def __init__(
        self,
        params: ParamsLike,
        lr: Rate = 1e-3,
        momentum: Natural = 0.0,
        dampening: Finite = 0.0,
        weight_decay: Natural = 0.0,
        nesterov: bool = False,
        *,
        state_sbp: SbpLike | None = None,
        shard_states: str | None = None,
    ) -> None:
        if nesterov and (momentum <= 0 or dampening != 0):
            raise FlowcoreError("nesterov=True needs momentum > 0 and dampening = 0")
        options = {"momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, lr, options, state_sbp, shard_states)

    def keeps_rows(self, options: Mapping[str, Any]) -> bool:
        return not options["momentum"] and not options["weight_decay"]

    def update(self, active: Sequence[Active], rate: Tensor, counts: Tensor, options: Mapping[str, Any]) -> None:
        rates, fresh = PerDType(rate), None
        if options["momentum"] and options["dampening"]:
            fresh = PerDType(1 - (counts > 1).astype("float64") * options["dampening"])
        for index, param, grad in active:
            direction = grad + param * options["weight_decay"] if options["weight_decay"] else grad
            if options["momentum"]:
                share = None if fresh is None else fresh.like(param, index)
                direction = self._with_momentum(param, direction, share, options["momentum"], options["nesterov"])
            param.assign(param - direction * rates.like(param))

    def _with_momentum(
        self, param: Tensor, direction: Tensor, share: Tensor | None, momentum: Natural, nesterov: bool
    ) -> Tensor:
        (held,) = self.state_of(param, "momentum_buffer")
        buffer = held * momentum + (direction if share is None else direction * share)
        held.assign(buffer)
        return direction + buffer * momentum if nesterov else buffer
