"""Activation functions as modules, for use in Sequential."""

from __future__ import annotations

from flowcore.nn import activations
from flowcore.nn.module import Module
from flowcore.ops.hyperbolic import tanh
from flowcore.tensor import Tensor


class ReLU(Module):
    """`relu`."""

    def forward(self, x: Tensor) -> Tensor:
        return activations.relu(x)


class GELU(Module):
    """`gelu`."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return activations.gelu(x, self.approximate)


class SiLU(Module):
    """`silu`."""

    def forward(self, x: Tensor) -> Tensor:
        return activations.silu(x)


class Sigmoid(Module):
    """`sigmoid`."""

    def forward(self, x: Tensor) -> Tensor:
        return activations.sigmoid(x)


class Tanh(Module):
    """tanh."""

    def forward(self, x: Tensor) -> Tensor:
        return tanh(x)


class Softmax(Module):
    """`softmax` along an axis."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return activations.softmax(x, self.axis)
