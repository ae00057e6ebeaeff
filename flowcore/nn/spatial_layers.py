"""Pooling and resizing as modules; names and arguments are PyTorch's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from flowcore.declared import Count, Counts, Positive
from flowcore.nn.module import Module
from flowcore.nn.pooling import avg_pool, max_pool
from flowcore.nn.resize import adaptive_avg_pool, adaptive_max_pool, interpolate
from flowcore.nn.spatial import Padding
from flowcore.tensor import Tensor


class MaxPool(Module):
    """`max_pool` of `spatial` dimensions."""

    spatial: ClassVar[int]

    def __init__(
        self,
        kernel_size: Counts,
        stride: Counts | None = None,
        padding: Padding = 0,
        dilation: Counts = 1,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.dilation, self.ceil_mode = dilation, ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        return max_pool(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, spatial=self.spatial
        )

    def describe(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding!r}"


class MaxPool1d(MaxPool):
    """`max_pool1d`."""

    spatial = 1


class MaxPool2d(MaxPool):
    """`max_pool2d`."""

    spatial = 2


class MaxPool3d(MaxPool):
    """`max_pool3d`."""

    spatial = 3


class AvgPool(Module):
    """`avg_pool` of `spatial` dimensions."""

    spatial: ClassVar[int]

    def __init__(
        self,
        kernel_size: Counts,
        stride: Counts | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: Count | None = None,
    ) -> None:
        self.kernel_size, self.stride, self.padding, self.ceil_mode = kernel_size, stride, padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
            spatial=self.spatial,
        )

    def describe(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding!r}"


class AvgPool1d(AvgPool):
    """`avg_pool1d`."""

    spatial = 1


class AvgPool2d(AvgPool):
    """`avg_pool2d`."""

    spatial = 2


class AvgPool3d(AvgPool):
    """`avg_pool3d`."""

    spatial = 3


class AdaptivePool(Module):
    """Pooling to `output_size`."""

    spatial: ClassVar[int]

    def __init__(self, output_size: Count | Sequence[int | None]) -> None:
        self.output_size = output_size

    def describe(self) -> str:
        return f"{self.output_size}"


class AdaptiveAvgPool(AdaptivePool):
    """`adaptive_avg_pool`."""

    def forward(self, x: Tensor) -> Tensor:
        return adaptive_avg_pool(x, self.output_size, spatial=self.spatial)


class AdaptiveMaxPool(AdaptivePool):
    """`adaptive_max_pool`."""

    def forward(self, x: Tensor) -> Tensor:
        return adaptive_max_pool(x, self.output_size, spatial=self.spatial)


class AdaptiveAvgPool1d(AdaptiveAvgPool):
    """`adaptive_avg_pool1d`."""

    spatial = 1


class AdaptiveAvgPool2d(AdaptiveAvgPool):
    """`adaptive_avg_pool2d`."""

    spatial = 2


class AdaptiveAvgPool3d(AdaptiveAvgPool):
    """`adaptive_avg_pool3d`."""

    spatial = 3


class AdaptiveMaxPool1d(AdaptiveMaxPool):
    """`adaptive_max_pool1d`."""

    spatial = 1


class AdaptiveMaxPool2d(AdaptiveMaxPool):
    """`adaptive_max_pool2d`."""

    spatial = 2


class AdaptiveMaxPool3d(AdaptiveMaxPool):
    """`adaptive_max_pool3d`."""

    spatial = 3


class Upsample(Module):
    """`interpolate`."""

    def __init__(
        self,
        size: Counts | None = None,
        scale_factor: Positive | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool = False,
    ) -> None:
        self.size, self.scale_factor, self.mode, self.align_corners = size, scale_factor, mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        return interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def describe(self) -> str:
        return f"size={self.size}, scale_factor={self.scale_factor}, mode={self.mode!r}"
