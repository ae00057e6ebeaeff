"""Convolutional layers; names, shapes, defaults and initial distributions are PyTorch's."""

from __future__ import annotations

from math import prod, sqrt
from typing import Any, ClassVar

from flowcore.declared import Count, Counts, Length, Sizes
from flowcore.errors import ShapeError
from flowcore.nn import init
from flowcore.nn.convolution import convolution, transposed_convolution
from flowcore.nn.module import Module, Parameter
from flowcore.nn.spatial import Padding, per_dimension
from flowcore.ops.create import zeros
from flowcore.tensor import Tensor


class Convolution(Module):
    """What convolutions have: weight, bias (or None), and where the kernel goes; ±1/sqrt(inputs of one output)."""

    spatial: ClassVar[int]
    bias: Parameter | None

    def __init__(
        self,
        in_channels: Length,
        out_channels: Length,
        kernel_size: Counts,
        stride: Counts = 1,
        padding: Padding = 0,
        dilation: Counts = 1,
        groups: Count = 1,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        self.taps = per_dimension(kernel_size, self.spatial, "kernel_size")
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ShapeError(f"{groups} groups of {in_channels} and {out_channels} channels: they must divide both")
        self.weight = Parameter(zeros(self._weight_shape(in_channels, out_channels), dtype=dtype))
        self.bias = Parameter(zeros((out_channels,), dtype=dtype)) if bias else None
        self.reset_parameters()

    def _weight_shape(self, inputs: int, outputs: int) -> tuple[int, ...]:
        return (outputs, inputs // self.groups, *self.taps)

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / sqrt(max(self.weight.shape[1] * prod(self.taps), 1))
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return convolution(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def describe(self) -> str:
        first, second = self.weight.shape[:2]
        return f"{first}, {second}, taps={self.taps}, stride={self.stride}, padding={self.padding!r}"


class Conv1d(Convolution):
    """`conv1d`. weight: (out_channels, in_channels / groups, k), bias: (out_channels,)."""

    spatial = 1


class Conv2d(Convolution):
    """`conv2d`. weight: (out_channels, in_channels / groups, k, l), bias: (out_channels,)."""

    spatial = 2


class Conv3d(Convolution):
    """`conv3d`. weight: (out_channels, in_channels / groups, k, l, m), bias: (out_channels,)."""

    spatial = 3


class TransposedConvolution(Convolution):
    """What transposed convolutions have. weight: (in_channels, out_channels / groups, …)."""

    padding: Sizes

    def __init__(
        self,
        in_channels: Length,
        out_channels: Length,
        kernel_size: Counts,
        stride: Counts = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: Count = 1,
        bias: bool = True,
        dilation: Counts = 1,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, dtype)
        self.output_padding = output_padding

    def _weight_shape(self, inputs: int, outputs: int) -> tuple[int, ...]:
        return (inputs, outputs // self.groups, *self.taps)

    def forward(self, x: Tensor) -> Tensor:
        return transposed_convolution(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )


class ConvTranspose1d(TransposedConvolution):
    """`conv_transpose1d`."""

    spatial = 1


class ConvTranspose2d(TransposedConvolution):
    """`conv_transpose2d`."""

    spatial = 2


class ConvTranspose3d(TransposedConvolution):
    """`conv_transpose3d`."""

    spatial = 3
