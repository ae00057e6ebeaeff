"""Optimizers, learning-rate schedules, clipping."""

from flowcore.optim.adam import Adam, AdamW
from flowcore.optim.clip import clip_grad_norm
from flowcore.optim.optimizer import Optimizer, ParamGroup
from flowcore.optim.schedules import CosineAnnealingLR, LambdaLR, Schedule, StepLR, WarmupLR
from flowcore.optim.sgd import SGD

__all__ = [
    "SGD", "Adam", "AdamW", "CosineAnnealingLR", "LambdaLR", "Optimizer", "ParamGroup", "Schedule", "StepLR",
    "WarmupLR", "clip_grad_norm",
]  # fmt: skip
