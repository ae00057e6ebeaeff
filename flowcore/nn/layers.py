"""Layers: modules of one operation. Names, shapes, defaults and initial distributions of parameters are PyTorch's."""

from __future__ import annotations

from math import prod, sqrt
from typing import Any, ClassVar

from flowcore.declared import Length, Probability
from flowcore.errors import ShapeError
from flowcore.nn import functions, init
from flowcore.nn.module import Module, Parameter
from flowcore.ops.axes import axis_of
from flowcore.ops.contract import contract
from flowcore.ops.create import ones, zeros
from flowcore.tensor import Tensor


class Linear(Module):
    """y = x · weightᵀ + bias. weight: (out_features, in_features), bias: (out_features,); ±1/sqrt(in_features)."""

    bias: Parameter | None

    def __init__(self, in_features: Length, out_features: Length, bias: bool = True, dtype: Any = "float32") -> None:
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(zeros((out_features, in_features), dtype=dtype))
        self.bias = Parameter(zeros((out_features,), dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / sqrt(max(self.in_features, 1))
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return functions.linear(x, self.weight, self.bias)

    def describe(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """Row numbers (…) → rows (…, embedding_dim). weight: (num_embeddings, embedding_dim), N(0, 1).

    sparse: only optimizers that change nothing but the rows of a batch may have its weight (SGD without momentum,
    Adagrad, SparseAdam). With these a compiled step never makes a gradient as large as the table, sparse or not.
    """

    def __init__(
        self, num_embeddings: Length, embedding_dim: Length, dtype: Any = "float32", sparse: bool = False
    ) -> None:
        self.weight = Parameter(zeros((num_embeddings, embedding_dim), dtype=dtype))
        self.weight.is_sparse = sparse
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.normal_(self.weight)

    def forward(self, indices: Tensor) -> Tensor:
        return functions.embedding(indices, self.weight)

    def describe(self) -> str:
        return ", ".join(map(str, self.weight.shape))


class Dropout(Module):
    """Sets elements to 0 with probability p while training; else the identity."""

    def __init__(self, p: Probability = 0.5) -> None:
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return functions.dropout(x, self.p, self.training)

    def describe(self) -> str:
        return f"p={self.p}"


class ChannelDropout(Dropout):
    """While training, sets whole channels (n, channels, …) to 0 with probability p; else the identity."""

    dimensions: ClassVar[int]

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != self.dimensions:
            raise ShapeError(f"{type(self).__name__} of shape {x.shape}: it takes {self.dimensions} dimensions")
        if not self.training or self.p == 0:
            return x
        whole = ones((*x.shape[:2], *(1,) * (x.ndim - 2)), dtype=x.dtype, placement=x.placement)
        return x * functions.dropout(whole, self.p)


class Dropout1d(ChannelDropout):
    """`ChannelDropout` of (n, channels, length)."""

    dimensions = 3


class Dropout2d(ChannelDropout):
    """`ChannelDropout` of (n, channels, height, width)."""

    dimensions = 4


class Dropout3d(ChannelDropout):
    """`ChannelDropout` of (n, channels, depth, height, width)."""

    dimensions = 5


class Identity(Module):
    """x itself; arguments are taken and ignored."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        return x


class Flatten(Module):
    """The dimensions from `start_dim` to `end_dim`, both included, as one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start, self.end = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        first, last = axis_of(self.start, x.ndim, "Flatten"), axis_of(self.end, x.ndim, "Flatten")
        if first > last:
            raise ShapeError(f"Flatten from {self.start} to {self.end} of {x.shape}: the first is behind the last")
        return x.reshape((*x.shape[:first], prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


class Bilinear(Module):
    """y[o] = Σ x1[i] weight[o,i,j] x2[j] + bias[o]; weight: (out, in1, in2), bias: (out,); ±1/sqrt(in1)."""

    bias: Parameter | None

    def __init__(
        self,
        in1_features: Length,
        in2_features: Length,
        out_features: Length,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        self.weight = Parameter(zeros((out_features, in1_features, in2_features), dtype=dtype))
        self.bias = Parameter(zeros((out_features,), dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / sqrt(max(self.weight.shape[1], 1))
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        outputs, first, second = self.weight.shape
        if x1.shape[:-1] != x2.shape[:-1] or (x1.shape[-1:], x2.shape[-1:]) != ((first,), (second,)):
            raise ShapeError(f"Bilinear of {x1.shape} and {x2.shape}: it takes (…, {first}) and (…, {second})")
        by_first = contract("ni,oij->noj", x1.reshape((-1, first)), self.weight)
        y = contract("noj,nj->no", by_first, x2.reshape((-1, second))).reshape((*x1.shape[:-1], outputs))
        return y if self.bias is None else y + self.bias
