"""Attention with several heads, as a module; parameter names, shapes and conventions are PyTorch's."""

from __future__ import annotations

from typing import Any

from flowcore.declared import Count, Length, Probability
from flowcore.errors import ShapeError
from flowcore.nn import init
from flowcore.nn.attention import scaled_dot_product_attention
from flowcore.nn.functions import linear
from flowcore.nn.layers import Linear
from flowcore.nn.module import Module, Parameter
from flowcore.ops.comparison import logical_and, logical_not
from flowcore.ops.create import zeros
from flowcore.ops.selection import where
from flowcore.ops.shape import permute_dims
from flowcore.tensor import Tensor


class MultiHeadAttention(Module):
    """Projections of query, key and value to `num_heads` heads, attention in each, and a projection of all.

    in_proj_weight: (3 embed_dim, embed_dim), in_proj_bias: (3 embed_dim,): query, key, value in this order.
    """

    in_proj_bias: Parameter | None

    def __init__(
        self,
        embed_dim: Length,
        num_heads: Count,
        dropout: Probability = 0.0,
        bias: bool = True,
        batch_first: bool = False,
        dtype: Any = "float32",
    ) -> None:
        if num_heads < 1 or embed_dim % num_heads:
            raise ShapeError(f"{num_heads} heads of {embed_dim} features: they must divide them")
        self.heads, self.dropout, self.batch_first = num_heads, dropout, batch_first
        self.in_proj_weight = Parameter(zeros((3 * embed_dim, embed_dim), dtype=dtype))
        self.in_proj_bias = Parameter(zeros((3 * embed_dim,), dtype=dtype)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew; biases are zeros."""
        init.xavier_uniform_(self.in_proj_weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """(queries, n, embed_dim) from query of that shape, key and value (keys, n, embed_dim); weights are not given.

        batch_first: n comes first instead. All may come without n. key_padding_mask: (n, keys), attn_mask: (queries,
        keys) or (n · heads, queries, keys): bool, True where a key is *not* seen, or added to the scores.
        """
        given: tuple[Tensor, ...] = (query, key, value)
        is_single = query.ndim == 2
        if is_single:
            given = tuple(x.reshape((1, *x.shape)) for x in given)
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask.reshape((1, *key_padding_mask.shape))
        elif not self.batch_first:
            given = tuple(permute_dims(x, (1, 0, 2)) for x in given)
        q, k, v = (self._heads(x, number) for number, x in enumerate(given))
        mask = self._mask(key_padding_mask, attn_mask, q)
        p = self.dropout if self.training else 0.0
        joined = permute_dims(scaled_dot_product_attention(q, k, v, mask, p, is_causal), (0, 2, 1, 3))
        y: Tensor = self.out_proj(joined.reshape((*joined.shape[:2], joined.shape[2] * joined.shape[3])))
        if is_single:
            return y.reshape(y.shape[1:])
        return y if self.batch_first else permute_dims(y, (1, 0, 2))

    def _heads(self, x: Tensor, number: int) -> Tensor:
        """(n, heads, rows, features) of projection `number`."""
        width = self.in_proj_weight.shape[1]
        own = slice(number * width, (number + 1) * width)
        y = linear(x, self.in_proj_weight[own], None if self.in_proj_bias is None else self.in_proj_bias[own])
        return permute_dims(y.reshape((*x.shape[:2], self.heads, width // self.heads)), (0, 2, 1, 3))

    def _mask(self, padding: Tensor | None, mask: Tensor | None, q: Tensor) -> Tensor | None:
        """Both masks as scaled_dot_product_attention takes one."""
        if mask is not None and mask.ndim == 3:
            mask = mask.reshape((mask.shape[0] // self.heads, self.heads, *mask.shape[1:]))
        if padding is not None:
            padding = padding.reshape((padding.shape[0], 1, 1, padding.shape[1]))
        found = [logical_not(own) if own.dtype.kind == "b" else own for own in (padding, mask) if own is not None]
        if len(found) < 2:
            return found[0] if found else None
        first, second = found
        if first.dtype.kind == second.dtype.kind == "b":
            return logical_and(first, second)
        added = [where(own, 0.0, float("-inf")).astype(q.dtype) if own.dtype.kind == "b" else own for own in found]
        return added[0] + added[1]

    def describe(self) -> str:
        return f"{self.in_proj_weight.shape[1]}, {self.heads}"
