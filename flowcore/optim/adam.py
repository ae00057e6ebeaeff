"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowcore.declared import Natural, Rate
from flowcore.errors import FlowcoreError
from flowcore.ops.arithmetic import power
from flowcore.ops.extrema import maximum
from flowcore.ops.unary import sqrt
from flowcore.optim.optimizer import Active, Optimizer, ParamsLike, PerDType
from flowcore.placement.sbp import SbpLike
from flowcore.tensor import Tensor


class Adam(Optimizer):
    """p ← p − lr/(1 − β₁ᵗ) · m / (sqrt(v)/sqrt(1 − β₂ᵗ) + eps), m and v the running means of g and g².

    Kingma and Ba, arXiv:1412.6980, in PyTorch's order of operations. weight_decay is added to the gradient (L2).
    amsgrad: v is replaced by the greatest v so far (Reddi et al., arXiv:1904.09237).
    """

    is_decay_decoupled = False

    def __init__(
        self,
        params: ParamsLike,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: Natural = 1e-8,
        weight_decay: Natural = 0.0,
        amsgrad: bool = False,
        *,
        state_sbp: SbpLike | None = None,
        shard_states: str | None = None,
    ) -> None:
        if not all(0 <= beta < 1 for beta in betas):
            raise FlowcoreError(f"betas={betas}: both lie in [0, 1)")
        options = {"betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, lr, options, state_sbp, shard_states)

    def update(self, active: Sequence[Active], rate: Tensor, counts: Tensor, options: Mapping[str, Any]) -> None:
        (beta1, beta2), decay = options["betas"], options["weight_decay"]
        step_size = PerDType(rate / (1 - power(beta1, counts)))
        correction = PerDType(sqrt(1 - power(beta2, counts)))
        kept = PerDType(1 - rate * decay)
        for index, param, grad in active:
            old: Tensor = param
            if decay and self.is_decay_decoupled:
                old = param * kept.like(param)
            elif decay:
                grad = grad + param * decay
            mean, square = self._moments(param, grad, options)
            scale = sqrt(square) / correction.like(param, index) + options["eps"]
            param.assign(old - mean * step_size.like(param, index) / scale)

    def _moments(self, param: Tensor, grad: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The running mean of the gradient, and that of its square (amsgrad: the greatest so far)."""
        beta1, beta2 = options["betas"]
        held_mean, held_square = self.state_of(param, "exp_avg", "exp_avg_sq")
        mean = held_mean + (grad - held_mean) * (1 - beta1)
        square = held_square * beta2 + grad * grad * (1 - beta2)
        held_mean.assign(mean)
        held_square.assign(square)
        if not options["amsgrad"]:
            return mean, square
        (held_greatest,) = self.state_of(param, "max_exp_avg_sq")
        greatest = maximum(held_greatest, square)
        held_greatest.assign(greatest)
        return mean, greatest


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameter itself: p ← p (1 − lr · weight_decay) first.

    Loshchilov and Hutter, arXiv:1711.05101.
    """

    is_decay_decoupled = True

    def __init__(
        self,
        params: ParamsLike,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: Natural = 1e-8,
        weight_decay: Natural = 1e-2,
        amsgrad: bool = False,
        *,
        state_sbp: SbpLike | None = None,
        shard_states: str | None = None,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, state_sbp=state_sbp, shard_states=shard_states)
