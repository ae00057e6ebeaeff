"""Losses as modules: options are given once, tensors at every call. Names are PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from flowcore.nn import losses
from flowcore.nn.ctc import ctc_loss
from flowcore.nn.module import Module
from flowcore.tensor import Tensor


class Loss(Module):
    """A loss with options by name; those that are tensors, such as weights, are saved and placed with the module."""

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, **options: Any) -> None:
        self.names = tuple(options)
        for name, value in options.items():
            if isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, *tensors: Tensor) -> Tensor:
        return type(self).function(*tensors, **{name: getattr(self, name) for name in self.names})

    def describe(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.names)


def _layer(name: str, function: Callable[..., Tensor]) -> type[Loss]:
    """The module `name` that computes `function`."""
    return type(name, (Loss,), {"function": staticmethod(function), "__doc__": function.__doc__})


CrossEntropyLoss = _layer("CrossEntropyLoss", losses.cross_entropy)
NLLLoss = _layer("NLLLoss", losses.nll_loss)
MSELoss = _layer("MSELoss", losses.mse_loss)
L1Loss = _layer("L1Loss", losses.l1_loss)
SmoothL1Loss = _layer("SmoothL1Loss", losses.smooth_l1_loss)
HuberLoss = _layer("HuberLoss", losses.huber_loss)
BCELoss = _layer("BCELoss", losses.binary_cross_entropy)
BCEWithLogitsLoss = _layer("BCEWithLogitsLoss", losses.binary_cross_entropy_with_logits)
CTCLoss = _layer("CTCLoss", ctc_loss)
KLDivLoss = _layer("KLDivLoss", losses.kl_div)
PoissonNLLLoss = _layer("PoissonNLLLoss", losses.poisson_nll_loss)
GaussianNLLLoss = _layer("GaussianNLLLoss", losses.gaussian_nll_loss)
HingeEmbeddingLoss = _layer("HingeEmbeddingLoss", losses.hinge_embedding_loss)
SoftMarginLoss = _layer("SoftMarginLoss", losses.soft_margin_loss)
MarginRankingLoss = _layer("MarginRankingLoss", losses.margin_ranking_loss)
CosineEmbeddingLoss = _layer("CosineEmbeddingLoss", losses.cosine_embedding_loss)
TripletMarginLoss = _layer("TripletMarginLoss", losses.triplet_margin_loss)
