"""Attention and its gradients as compiled kernels: a few queries of one head at a time, against all keys they see.

The scores of these queries fill a scratch that stays in the cache; nothing of them is kept, and the gradients compute
them again. Keys and values are turned once per head where a product needs them by columns. With weights P = softmax(S),
S = scale · q kᵀ, and dP = dy vᵀ, the gradients are dS = scale · P (dP − Σ P dP), dv = Pᵀ dy, dq = dS k and dk = dSᵀ q.
Needs numba.

sizes: outer and inner number of heads, queries, keys, features, columns, base and step (query i sees base + step · i
keys, none or all where that is less or more), queries of a block, and the bits of the scale as float64. at_x: elements
of x from one outer number of a head, one inner number and one row to the next; 0 where heads share a matrix.

Products take whole numbers of `LANES` keys, loops over rows of scores whole numbers of `WIDTH`, which vectors fill, and
as many have room in all scratch; what a query does not see is 0.
"""

from __future__ import annotations

import numpy as np

from flowcore.jit.elementary import exp_f4, exp_f8
from flowcore.jit.lanes import add_f4, add_f8, any_order, distinct, exact, f8, greatest, i8, inf, inlined
from flowcore.jit.panels import ROWS, multiply, transpose

WIDTH, LANES = 64, 16
ZERO, ONE, NEW, MORE = i8(0), i8(1), np.bool_(False), np.bool_(True)
"""Arguments of `multiply`: where they are literals, numba compiles it anew for each."""


@exact
def fill(x, number):
    """x[:] = number"""
    for c in range(x.shape[0]):
        x[c] = number


@exact
def clear(x, first, distance, rows, columns):
    """Zeros for a matrix in `x`."""
    for r in range(rows):
        fill(x[first + r * distance : first + r * distance + columns], x.dtype.type(0))


@exact
def is_new(at, outer, inner):
    """Whether no head before this one has the same matrix."""
    return (outer == 0 or at[0] != 0) and (inner == 0 or at[1] != 0)


@exact
def seen_by(sizes, query):
    """How many keys a query sees."""
    return min(max(sizes[6] + sizes[7] * query, 0), sizes[3])


@exact
def whole(seen):
    """As many keys, or a few more."""
    return -(-seen // WIDTH) * WIDTH


@inlined
def across(sizes, i, rows, depth, scale, a, a0, distance, turned, scores, width):
    """scores (rows, width) ← scale · a turned, for `rows` queries from number i on, as far as they see."""
    for r in range(0, rows, ROWS):
        few = min(ROWS, rows - r)
        seen = -(-seen_by(sizes, i + r + few - 1) // LANES) * LANES
        multiply(few, seen, depth, scale, a, a0 + r * distance, distance, ONE, turned, ZERO, width,
                 NEW, scores, r * width, width)  # fmt: skip


@inlined
def along(sizes, i, rows, columns, scores, width, b, b0, distance, adds, y, y0, step):
    """y (rows, columns) ← scores b, for `rows` queries from number i on, as far as they see; added where `adds`."""
    one = y.dtype.type(1)
    for r in range(0, rows, ROWS):
        few = min(ROWS, rows - r)
        multiply(few, columns, seen_by(sizes, i + r + few - 1), one, scores, r * width, width, ONE, b, b0, distance,
                 adds, y, y0 + r * step, step)  # fmt: skip


def _softmax(exp, add):
    def softmax(sizes, i, rows, scores, width, factors):
        """Rows of scores ← powers of their distance to the greatest that is seen; factors ← 1 / their sums, or 0.

        What is not seen becomes 0. Each step is made for all rows before the next, so that processors overlap them.
        """
        none, zero, one = scores.dtype.type(-inf), scores.dtype.type(0), scores.dtype.type(1)
        far, further = scores.dtype.type(80), scores.dtype.type(2.0**-20)
        for r in range(rows):
            seen = seen_by(sizes, i + r)
            row, most = scores[r * width : r * width + seen], none
            for c in range(row.shape[0]):
                most = greatest(most, row[c])
            most = zero if most == none else most
            # its power changes no sum, but is no number so small that processors take long over it
            fill(scores[r * width + seen : r * width + whole(seen)], most - max(far, abs(most) * further))
            factors[r] = most
        for r in range(rows):
            seen = seen_by(sizes, i + r)
            row, most, total = scores[r * width : r * width + whole(seen)], factors[r], zero
            for c in range(row.shape[0]):
                power = exp(row[c] - most)
                row[c] = power
                total = add(total, power)
            fill(scores[r * width + seen : r * width + width], zero)
            factors[r] = zero if total == 0 else one / total

    return distinct(softmax, exp, add, compile=inlined)


def _forward(exp, add):
    softmax = _softmax(exp, add)

    def forward(sizes, at_q, at_k, at_v, at_y, q, k, v, y, turned, scores, factors):
        """y ← softmax(scale · q kᵀ) v. Scratch: turned (features, keys), scores (block, keys), factors (block)."""
        _, _, queries, keys, features, columns, _, _, block, bits = sizes
        scale, width, last = y.dtype.type(i8(bits).view(f8)), whole(keys), -1
        for head in range(sizes[0] * sizes[1]):
            outer, inner = head // sizes[1], head % sizes[1]
            q0, k0 = outer * at_q[0] + inner * at_q[1], outer * at_k[0] + inner * at_k[1]
            v0, y0 = outer * at_v[0] + inner * at_v[1], outer * at_y[0] + inner * at_y[1]
            if k0 != last:
                transpose(keys, features, k, k0, at_k[2], turned, 0, width)
                last = k0
            for i in range(0, queries, block):
                rows = min(block, queries - i)
                across(sizes, i, rows, features, scale, q, q0 + i * at_q[2], at_q[2], turned, scores, width)
                softmax(sizes, i, rows, scores, width, factors)
                for r in range(rows):
                    row, factor = scores[r * width : r * width + whole(seen_by(sizes, i + r))], factors[r]
                    for c in range(row.shape[0]):
                        row[c] *= factor
                along(sizes, i, rows, columns, scores, width, v, v0, at_v[2], NEW, y, y0 + i * at_y[2], at_y[2])

    return distinct(forward, exp, add, compile=inlined)


def _backward(exp, add):
    softmax = _softmax(exp, add)

    def weigh(powers, slopes, factor):
        """powers ← factor · powers, the weights; Σ weights · slopes."""
        total = powers.dtype.type(0)
        for c in range(powers.shape[0]):
            weight = powers[c] * factor
            powers[c] = weight
            total = add(total, weight * slopes[c])
        return total

    weigh = distinct(weigh, add, compile=any_order)

    def backward(
        sizes, at_q, at_k, at_v, at_dy, at_dq, at_dk, at_dv, q, k, v, dy, dq, dk, dv,
        turned_k, turned_v, scores, slopes, factors,
    ):  # fmt: skip
        """dq, dk, dv ← the gradients of `forward` by q, k and v, given that of y; of a shared matrix their sum.

        Scratch: turned_k (features, keys), turned_v (columns, keys), scores and slopes (block, keys),
        factors (block).
        """
        _, _, queries, keys, features, columns, _, _, block, bits = sizes
        none, one, scale, width = dy.dtype.type(0), dy.dtype.type(1), dy.dtype.type(i8(bits).view(f8)), whole(keys)
        for head in range(sizes[0] * sizes[1]):
            outer, inner = head // sizes[1], head % sizes[1]
            q0, k0 = outer * at_q[0] + inner * at_q[1], outer * at_k[0] + inner * at_k[1]
            v0, dy0 = outer * at_v[0] + inner * at_v[1], outer * at_dy[0] + inner * at_dy[1]
            dq0, dk0 = outer * at_dq[0] + inner * at_dq[1], outer * at_dk[0] + inner * at_dk[1]
            dv0 = outer * at_dv[0] + inner * at_dv[1]
            if is_new(at_dk, outer, inner):
                clear(dk, dk0, at_dk[2], keys, features)
            if is_new(at_dv, outer, inner):
                clear(dv, dv0, at_dv[2], keys, columns)
            adds = not is_new(at_dq, outer, inner)
            transpose(keys, features, k, k0, at_k[2], turned_k, 0, width)
            transpose(keys, columns, v, v0, at_v[2], turned_v, 0, width)
            for i in range(0, queries, block):
                rows = min(block, queries - i)
                q_i, dy_i = q0 + i * at_q[2], dy0 + i * at_dy[2]
                across(sizes, i, rows, features, scale, q, q_i, at_q[2], turned_k, scores, width)
                across(sizes, i, rows, columns, one, dy, dy_i, at_dy[2], turned_v, slopes, width)
                softmax(sizes, i, rows, scores, width, factors)
                for r in range(rows):
                    seen = seen_by(sizes, i + r)
                    first, end = r * width, r * width + whole(seen)
                    weights, slope = scores[first:end], slopes[first:end]
                    fill(slopes[first + seen : first + width], none)
                    factors[r] = weigh(weights, slope, factors[r])
                for r in range(rows):
                    first, end, mean = r * width, r * width + whole(seen_by(sizes, i + r)), factors[r]
                    weights, slope = scores[first:end], slopes[first:end]
                    for c in range(slope.shape[0]):
                        slope[c] = (slope[c] - mean) * weights[c] * scale
                seen = seen_by(sizes, i + rows - 1)
                multiply(seen, columns, rows, one, scores, ZERO, ONE, width,
                         dy, dy_i, at_dy[2], MORE, dv, dv0, at_dv[2])  # fmt: skip
                multiply(seen, features, rows, one, slopes, ZERO, ONE, width,
                         q, q_i, at_q[2], MORE, dk, dk0, at_dk[2])  # fmt: skip
                along(sizes, i, rows, features, slopes, width, k, k0, at_k[2], adds, dq, dq0 + i * at_dq[2], at_dq[2])

    return distinct(backward, exp, add, compile=inlined)


forward_f4, forward_f8 = _forward(exp_f4, add_f4), _forward(exp_f8, add_f8)
backward_f4, backward_f8 = _backward(exp_f4, add_f4), _backward(exp_f8, add_f8)
