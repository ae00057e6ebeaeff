"""Scaled dot-product attention (Vaswani et al., arXiv:1706.03762); arguments as in PyTorch."""

from __future__ import annotations

from math import sqrt

from flowcore.dtypes import is_real
from flowcore.errors import FlowcoreError, ShapeError
from flowcore.nn.arrays import takes_arrays
from flowcore.nn.functions import dropout
from flowcore.ops.attention import Attention
from flowcore.ops.call import apply
from flowcore.ops.cast import aligned, astype
from flowcore.ops.shape import broadcast_to
from flowcore.tensor import Tensor


@takes_arrays
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query keyᵀ · scale + mask) value; (…, queries, columns).

    query: (…, queries, features), key: (…, keys, features), value: (…, keys, columns); leading dimensions broadcast.
    attn_mask: (…, queries, keys), bool (True where a query sees a key) or added; a query that sees no key gives zeros.
    is_causal: query i sees the keys up to i. scale: None, 1/sqrt(features). enable_gqa: query has a multiple of the
    heads (dimension −3) of key and value, and consecutive ones share. The scores are held a few rows at a time, unless
    dropout_p sets weights to 0 or the mask is learned. Split along batch, heads or queries nothing moves.
    """
    query, key, value = aligned(query, key, value)
    heads = query.shape[-3] if query.ndim > 2 else 1
    if enable_gqa:
        query, key, value = _grouped(query, key, value)
    mask = None if attn_mask is None else _mask(attn_mask, query, key, heads if enable_gqa else None)
    ndim = max(x.ndim for x in (query, key, value, *(() if mask is None else (mask,))))
    q, k, v, *masks = (
        x.reshape((*(1,) * (ndim - x.ndim), *x.shape)) for x in (query, key, value, mask) if x is not None
    )
    op = Attention(1 / sqrt(max(q.shape[-1], 1)) if scale is None else float(scale), is_causal)
    if dropout_p:
        op.infer(*(x.value.type for x in (q, k, v, *masks)))
        y = dropout(op.composed(q, k, *masks), dropout_p) @ v
    else:
        y = apply(op, q, k, v, *masks)
    return y.reshape((*y.shape[:-4], heads, *y.shape[-2:])) if enable_gqa else y


def _grouped(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(…, groups, heads of a group, queries, features), and keys and values with one head in each group."""
    if min(query.ndim, key.ndim, value.ndim) < 3 or query.shape[-3] % key.shape[-3] or key.shape[-3] != value.shape[-3]:
        raise ShapeError(
            f"grouped attention of {query.shape}, {key.shape}, {value.shape}: dimension -3 of the query must be a "
            f"multiple of that of key and value, which are equal"
        )
    groups = key.shape[-3]
    shape = (*query.shape[:-3], groups, query.shape[-3] // groups, *query.shape[-2:])
    single = [x.reshape((*x.shape[:-2], 1, *x.shape[-2:])) for x in (key, value)]
    return query.reshape(shape), single[0], single[1]


def _mask(mask: Tensor, query: Tensor, key: Tensor, heads: int | None) -> Tensor:
    """The mask with one element per query (or one for all) and key, its heads as those of `query`."""
    if mask.ndim < 2:
        raise FlowcoreError(f"attn_mask of shape {mask.shape}: it needs dimensions for queries and keys; reshape it")
    if mask.shape[-1] == 1 != key.shape[-2]:
        mask = broadcast_to(mask, (*mask.shape[:-1], key.shape[-2]))
    if is_real(mask.dtype):
        mask = astype(mask, query.dtype)
    if heads is not None and mask.ndim > 2:
        own = query.shape[-4:-2] if mask.shape[-3] == heads else (1, 1)
        mask = mask.reshape((*mask.shape[:-3], *own, *mask.shape[-2:]))
    return mask
