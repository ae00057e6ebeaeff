"""Attention and its gradients as compiled kernels: a few queries of one head at a time, against all keys they see.

The scores of these queries fill a scratch that stays in the cache; nothing of them is kept, and the gradients compute
them again. Keys and values are turned once per head, for the product of a plain matrix with a plain one is fastest.
With weights P = softmax(S), S = scale · q kᵀ, and dP = dy vᵀ, the gradients are dS = scale · P (dP − Σ P dP),
dv = Pᵀ dy, dq = dS k and dk = dSᵀ q. Needs numba and its BLAS.

sizes: outer and inner number of heads, queries, keys, features, columns, base and step (query i sees base + step · i
keys, none or all where that is less or more), queries of a block, and the bits of the scale as float64. at_x: elements
of x from one outer number of a head, one inner number and one row to the next; 0 where heads share a matrix.
"""

from __future__ import annotations

from flowcore.jit.blas import gemm
from flowcore.jit.elementary import exp_f4, exp_f8
from flowcore.jit.lanes import add_f4, add_f8, any_order, distinct, exact, f8, greatest, i8, inf


@exact
def turn(x, first, distance, rows, columns, turned):
    """turned (columns, rows) ← the transpose of the matrix in `x`."""
    for c in range(columns):
        line = turned[c * rows : c * rows + rows]
        for r in range(line.shape[0]):
            line[r] = x[first + r * distance + c]


@exact
def clear(x, at, sizes, rows, columns):
    """Zeros for all matrices in `x`."""
    for outer in range(sizes[0]):
        for inner in range(sizes[1]):
            for r in range(rows):
                first = outer * at[0] + inner * at[1] + r * at[2]
                x[first : first + columns] = 0


@exact
def seen_by(sizes, query):
    """How many keys a query sees."""
    return min(max(sizes[6] + sizes[7] * query, 0), sizes[3])


def _softmax(exp, add):
    def softmax(row, seen):
        """row ← powers of the distance to the greatest of the first `seen` scores, else 0; 1 / their sum, or 0."""
        none = row.dtype.type(-inf)
        most = none
        for c in range(row.shape[0]):
            most = greatest(most, row[c] if c < seen else none)
        most = row.dtype.type(0) if most == none else most
        total = row.dtype.type(0)
        for c in range(row.shape[0]):
            power = exp(row[c] - most) if c < seen else row.dtype.type(0)
            row[c] = power
            total = add(total, power)
        return row.dtype.type(0) if total == 0 else row.dtype.type(1) / total

    return distinct(softmax, exp, add)


def _forward(exp, add):
    softmax = _softmax(exp, add)

    def forward(sizes, at_q, at_k, at_v, at_y, q, k, v, y, turned, scores):
        """y ← softmax(scale · q kᵀ) v. Scratch: turned (features, keys), scores (block, keys)."""
        _, _, queries, keys, features, columns, _, _, block, bits = sizes
        one, none, scale = y.dtype.type(1), y.dtype.type(0), y.dtype.type(i8(bits).view(f8))
        last = -1
        for head in range(sizes[0] * sizes[1]):
            outer, inner = head // sizes[1], head % sizes[1]
            q0, k0 = outer * at_q[0] + inner * at_q[1], outer * at_k[0] + inner * at_k[1]
            v0, y0 = outer * at_v[0] + inner * at_v[1], outer * at_y[0] + inner * at_y[1]
            if k0 != last:
                turn(k, k0, at_k[2], keys, features, turned)
                last = k0
            for i in range(0, queries, block):
                rows = min(block, queries - i)
                seen = seen_by(sizes, i + rows - 1)
                gemm(False, False, rows, seen, features, scale, q, q0 + i * at_q[2], at_q[2], turned, 0, keys,
                     none, scores, 0, keys)  # fmt: skip
                for r in range(rows):
                    row = scores[r * keys : r * keys + seen]
                    row *= softmax(row, seen_by(sizes, i + r))
                gemm(False, False, rows, columns, seen, one, scores, 0, keys, v, v0, at_v[2],
                     none, y, y0 + i * at_y[2], at_y[2])  # fmt: skip

    return distinct(forward, exp, add)


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
        turned_k, turned_v, scores, slopes,
    ):  # fmt: skip
        """dq, dk, dv ← the gradients of `forward` by q, k and v, given that of y; of a shared matrix their sum.

        Scratch: turned_k (features, keys), turned_v (columns, keys), scores and slopes (block, keys).
        """
        _, _, queries, keys, features, columns, _, _, block, bits = sizes
        one, none, scale = dy.dtype.type(1), dy.dtype.type(0), dy.dtype.type(i8(bits).view(f8))
        clear(dq, at_dq, sizes, queries, features)
        clear(dk, at_dk, sizes, keys, features)
        clear(dv, at_dv, sizes, keys, columns)
        for head in range(sizes[0] * sizes[1]):
            outer, inner = head // sizes[1], head % sizes[1]
            q0, k0 = outer * at_q[0] + inner * at_q[1], outer * at_k[0] + inner * at_k[1]
            v0, dy0 = outer * at_v[0] + inner * at_v[1], outer * at_dy[0] + inner * at_dy[1]
            dq0, dk0 = outer * at_dq[0] + inner * at_dq[1], outer * at_dk[0] + inner * at_dk[1]
            dv0 = outer * at_dv[0] + inner * at_dv[1]
            turn(k, k0, at_k[2], keys, features, turned_k)
            turn(v, v0, at_v[2], keys, columns, turned_v)
            for i in range(0, queries, block):
                rows = min(block, queries - i)
                seen = seen_by(sizes, i + rows - 1)
                gemm(False, False, rows, seen, features, scale, q, q0 + i * at_q[2], at_q[2], turned_k, 0, keys,
                     none, scores, 0, keys)  # fmt: skip
                gemm(False, False, rows, seen, columns, one, dy, dy0 + i * at_dy[2], at_dy[2], turned_v, 0, keys,
                     none, slopes, 0, keys)  # fmt: skip
                for r in range(rows):
                    weights, slope = scores[r * keys : r * keys + seen], slopes[r * keys : r * keys + seen]
                    factor = softmax(weights, seen_by(sizes, i + r))
                    mean = weigh(weights, slope, factor)
                    for c in range(slope.shape[0]):
                        slope[c] = (slope[c] - mean) * weights[c] * scale
                gemm(True, False, seen, columns, rows, one, scores, 0, keys, dy, dy0 + i * at_dy[2], at_dy[2],
                     one, dv, dv0, at_dv[2])  # fmt: skip
                gemm(True, False, seen, features, rows, one, slopes, 0, keys, q, q0 + i * at_q[2], at_q[2],
                     one, dk, dk0, at_dk[2])  # fmt: skip
                gemm(False, False, rows, features, seen, one, slopes, 0, keys, k, k0, at_k[2],
                     one, dq, dq0 + i * at_dq[2], at_dq[2])  # fmt: skip

    return distinct(backward, exp, add)


forward_f4, forward_f8 = _forward(exp_f4, add_f4), _forward(exp_f8, add_f8)
backward_f4, backward_f8 = _backward(exp_f4, add_f4), _backward(exp_f8, add_f8)
