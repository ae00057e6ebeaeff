"""Learning rates as functions of how often `step()` was called: one scalar state changes, nothing is traced again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import cos, pi
from typing import Any

from flowcore.declared import Count, Length, Natural
from flowcore.optim.optimizer import Optimizer


class Schedule:
    """Sets the learning rate of every group to `rate(its first rate, steps)`; subclasses define `rate`."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.base = [group.lr for group in optimizer.param_groups]
        self.steps = 0
        self._apply()

    def rate(self, base: float, steps: int) -> float:
        """The learning rate after `steps` steps."""
        raise NotImplementedError

    def step(self) -> None:
        """Go on by one step (or epoch, as you count)."""
        self.steps += 1
        self._apply()

    def _apply(self) -> None:
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group.lr = self.rate(base, self.steps)

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands."""
        return {"steps": self.steps, "base": list(self.base)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.steps, self.base = state["steps"], list(state["base"])
        self._apply()


class LambdaLR(Schedule):
    """base · factor(steps)."""

    def __init__(self, optimizer: Optimizer, factor: Callable[[int], float]) -> None:
        self.factor = factor
        super().__init__(optimizer)

    def rate(self, base: float, steps: int) -> float:
        return base * self.factor(steps)


class StepLR(Schedule):
    """base · gamma^⌊steps / step_size⌋."""

    def __init__(self, optimizer: Optimizer, step_size: Count, gamma: Natural = 0.1) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def rate(self, base: float, steps: int) -> float:
        return base * self.gamma ** (steps // self.step_size)


class CosineAnnealingLR(Schedule):
    """eta_min + (base − eta_min) (1 + cos(π steps / T_max)) / 2 (Loshchilov and Hutter, arXiv:1608.03983)."""

    def __init__(self, optimizer: Optimizer, T_max: Count, eta_min: Natural = 0.0) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def rate(self, base: float, steps: int) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + cos(pi * steps / self.T_max)) / 2


class WarmupLR(Schedule):
    """A straight rise from start_factor · base to base over `warmup_steps`, then `after`, counted from there."""

    def __init__(
        self, optimizer: Optimizer, warmup_steps: Length, start_factor: Natural = 0.0, after: Schedule | None = None
    ) -> None:
        self.warmup_steps, self.start_factor, self.after = warmup_steps, start_factor, after
        super().__init__(optimizer)
        if after is not None:
            self.base = list(after.base)
            self._apply()

    def rate(self, base: float, steps: int) -> float:
        if steps < self.warmup_steps:
            return base * (self.start_factor + (1 - self.start_factor) * steps / self.warmup_steps)
        return base if self.after is None else self.after.rate(base, steps - self.warmup_steps)
