"""Optimizers, learning-rate schedules, clipping."""

from flowcore.optim.adagrad import Adagrad
from flowcore.optim.adam import Adam, AdamW
from flowcore.optim.clip import clip_grad_norm
from flowcore.optim.optimizer import Optimizer, ParamGroup
from flowcore.optim.schedules import CosineAnnealingLR, LambdaLR, Schedule, StepLR, WarmupLR
from flowcore.optim.sgd import SGD
from flowcore.optim.sparse_adam import SparseAdam

__all__ = [
    "SGD", "Adagrad", "Adam", "AdamW", "CosineAnnealingLR", "LambdaLR", "Optimizer", "ParamGroup", "Schedule",
    "SparseAdam", "StepLR", "WarmupLR", "clip_grad_norm",
]  # fmt: skip
