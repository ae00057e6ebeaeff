"""Activation functions as modules, for use in Sequential; options are those of the functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from flowcore.declared import check_options
from flowcore.nn import activations
from flowcore.nn.module import Module, Parameter
from flowcore.ops.create import full
from flowcore.ops.hyperbolic import tanh
from flowcore.tensor import Tensor


class Activation(Module):
    """A function of one tensor and options."""

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        check_options(type(self).function, type(self).__name__, arguments, options)
        self.arguments, self.options = arguments, options

    def forward(self, x: Tensor) -> Tensor:
        return type(self).function(x, *self.arguments, **self.options)

    def describe(self) -> str:
        return ", ".join((*map(repr, self.arguments), *(f"{key}={value!r}" for key, value in self.options.items())))


def _layer(name: str, function: Callable[..., Tensor]) -> type[Activation]:
    """The module `name` that applies `function`."""
    return type(name, (Activation,), {"function": staticmethod(function), "__doc__": function.__doc__})


ReLU = _layer("ReLU", activations.relu)
ReLU6 = _layer("ReLU6", activations.relu6)
LeakyReLU = _layer("LeakyReLU", activations.leaky_relu)
ELU = _layer("ELU", activations.elu)
CELU = _layer("CELU", activations.celu)
SELU = _layer("SELU", activations.selu)
GELU = _layer("GELU", activations.gelu)
SiLU = _layer("SiLU", activations.silu)
Mish = _layer("Mish", activations.mish)
GLU = _layer("GLU", activations.glu)
Sigmoid = _layer("Sigmoid", activations.sigmoid)
LogSigmoid = _layer("LogSigmoid", activations.logsigmoid)
Tanh = _layer("Tanh", tanh)
Softplus = _layer("Softplus", activations.softplus)
Softsign = _layer("Softsign", activations.softsign)
Softmax = _layer("Softmax", activations.softmax)
LogSoftmax = _layer("LogSoftmax", activations.log_softmax)
Softmin = _layer("Softmin", activations.softmin)
Hardtanh = _layer("Hardtanh", activations.hardtanh)
Hardsigmoid = _layer("Hardsigmoid", activations.hardsigmoid)
Hardswish = _layer("Hardswish", activations.hardswish)
Hardshrink = _layer("Hardshrink", activations.hardshrink)
Softshrink = _layer("Softshrink", activations.softshrink)
Tanhshrink = _layer("Tanhshrink", activations.tanhshrink)


class PReLU(Module):
    """`prelu`. weight: (num_parameters,), which begins as `init`."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = "float32") -> None:
        self.weight = Parameter(full((num_parameters,), init, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return activations.prelu(x, self.weight)

    def describe(self) -> str:
        return f"{self.weight.size}"
