"""Normalizing layers; names, shapes and defaults are PyTorch's. weight begins as ones, bias as zeros."""

from __future__ import annotations

from typing import Any, ClassVar

from flowcore.declared import Count, Length, Natural, Sizes
from flowcore.errors import ShapeError
from flowcore.grad import no_grad
from flowcore.nn import init, norms
from flowcore.nn.module import Module, Parameter
from flowcore.ops.axes import lengths_of
from flowcore.ops.create import ones, zeros
from flowcore.tensor import Tensor


class Weighted(Module):
    """A layer with a weight and a bias of one shape, each perhaps None."""

    weight: Parameter | None
    bias: Parameter | None

    def own(self, shape: tuple[int, ...], has_weight: bool, has_bias: bool, dtype: Any) -> None:
        """Make them."""
        self.weight = Parameter(ones(shape, dtype=dtype)) if has_weight else None
        self.bias = Parameter(zeros(shape, dtype=dtype)) if has_bias else None

    def reset_parameters(self) -> None:
        """weight 1, bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class LayerNorm(Weighted):
    """Normalization over the last dimensions, then weight and bias, both of `normalized_shape`."""

    def __init__(
        self,
        normalized_shape: Sizes,
        eps: Natural = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        self.shape = lengths_of(normalized_shape)
        self.eps = eps
        self.own(self.shape, elementwise_affine, elementwise_affine and bias, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return norms.layer_norm(x, self.shape, self.weight, self.bias, self.eps)

    def describe(self) -> str:
        return f"{self.shape}, eps={self.eps}"


class RMSNorm(Weighted):
    """Division by the root of the mean square over the last dimensions, then weight, of `normalized_shape`."""

    def __init__(
        self,
        normalized_shape: Sizes,
        eps: Natural | None = None,
        elementwise_affine: bool = True,
        dtype: Any = "float32",
    ) -> None:
        self.shape = lengths_of(normalized_shape)
        self.eps = eps
        self.own(self.shape, elementwise_affine, False, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return norms.rms_norm(x, self.shape, self.weight, self.eps)

    def describe(self) -> str:
        return f"{self.shape}, eps={self.eps}"


class GroupNorm(Weighted):
    """Normalization over groups of channels of each sample; weight, bias: (num_channels,)."""

    def __init__(
        self, num_groups: Count, num_channels: Length, eps: Natural = 1e-5, affine: bool = True, dtype: Any = "float32"
    ) -> None:
        self.groups, self.eps = num_groups, eps
        self.own((num_channels,), affine, affine, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return norms.group_norm(x, self.groups, self.weight, self.bias, self.eps)

    def describe(self) -> str:
        return f"{self.groups}, eps={self.eps}"


class ByChannel(Weighted):
    """A layer that normalizes every channel, for inputs of `dimensions` dimensions."""

    dimensions: ClassVar[tuple[int, ...]]

    def check(self, x: Tensor) -> None:
        """ShapeError unless `x` has dimensions that fit."""
        if x.ndim not in self.dimensions:
            wanted = " or ".join(map(str, self.dimensions))
            raise ShapeError(f"{type(self).__name__} of shape {x.shape}: it takes {wanted} dimensions")


class InstanceNorm(ByChannel):
    """`instance_norm`; without weight and bias unless `affine`."""

    def __init__(self, num_features: Length, eps: Natural = 1e-5, affine: bool = False, dtype: Any = "float32") -> None:
        self.eps = eps
        self.own((num_features,), affine, affine, dtype)

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        return norms.instance_norm(x, self.weight, self.bias, self.eps)


class InstanceNorm1d(InstanceNorm):
    """`instance_norm` of (n, channels, length)."""

    dimensions = (3,)


class InstanceNorm2d(InstanceNorm):
    """`instance_norm` of (n, channels, height, width)."""

    dimensions = (4,)


class InstanceNorm3d(InstanceNorm):
    """`instance_norm` of (n, channels, depth, height, width)."""

    dimensions = (5,)


class BatchNorm(ByChannel):
    """While training, normalization of every channel over the whole batch, wherever it lies; then weight and bias.

    running_mean, running_var (unbiased) follow the statistics of the batches by `momentum` (None: they are the mean of
    all), num_batches_tracked counts; in evaluation they take the place of the batch's. Without track_running_stats
    there are none, and the batch's always serve.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: Length,
        eps: Natural = 1e-5,
        momentum: Natural | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = "float32",
    ) -> None:
        self.eps, self.momentum, self.is_tracking = eps, momentum, track_running_stats
        self.own((num_features,), affine, affine, dtype)
        if track_running_stats:
            self.register_buffer("running_mean", zeros((num_features,), dtype=dtype))
            self.register_buffer("running_var", ones((num_features,), dtype=dtype))
            self.register_buffer("num_batches_tracked", zeros((), dtype="int64"))

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        if self.is_tracking and not self.training:
            return norms.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)
        y, mean, variance = norms.batch_statistics(x, self.weight, self.bias, self.eps)
        if self.is_tracking:
            self._follow(mean.detach(), variance.detach())
        return y

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        with no_grad():
            count = self.num_batches_tracked + 1
            self.num_batches_tracked.assign(count)
            for running, new in ((self.running_mean, mean), (self.running_var, variance)):
                share = 1 / count.astype(new.dtype) if self.momentum is None else self.momentum
                running.assign((running + (new - running) * share).astype(running.dtype))

    def describe(self) -> str:
        return f"eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(BatchNorm):
    """`BatchNorm` of (n, channels) or (n, channels, length)."""

    dimensions = (2, 3)


class BatchNorm2d(BatchNorm):
    """`BatchNorm` of (n, channels, height, width)."""

    dimensions = (4,)


class BatchNorm3d(BatchNorm):
    """`BatchNorm` of (n, channels, depth, height, width)."""

    dimensions = (5,)
