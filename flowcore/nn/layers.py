"""Layers: modules of one operation. Names, shapes, defaults and initial distributions of parameters are PyTorch's."""

from __future__ import annotations

from math import sqrt
from typing import Any

from flowcore.errors import FlowcoreError
from flowcore.nn import functions, init
from flowcore.nn.module import Module, Parameter
from flowcore.ops.create import zeros
from flowcore.tensor import Tensor


class Linear(Module):
    """y = x · weightᵀ + bias. weight: (out_features, in_features), bias: (out_features,); ±1/sqrt(in_features)."""

    bias: Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = "float32") -> None:
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
    """Row numbers (…) → rows (…, embedding_dim). weight: (num_embeddings, embedding_dim), N(0, 1)."""

    def __init__(self, num_embeddings: int, embedding_dim: int, dtype: Any = "float32") -> None:
        self.weight = Parameter(zeros((num_embeddings, embedding_dim), dtype=dtype))
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

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise FlowcoreError(f"Dropout(p={p}): a probability lies between 0 and 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return functions.dropout(x, self.p, self.training)

    def describe(self) -> str:
        return f"p={self.p}"
