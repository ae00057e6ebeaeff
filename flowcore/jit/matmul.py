"""Batches of matrix products by BLAS, as one kernel; needs numba."""

from __future__ import annotations

from flowcore.jit.blas import gemm
from flowcore.jit.lanes import inlined


@inlined
def products(m, n, k, ta, tb, lda, ldb, ldc, p, pa, pb, pc, q, qa, qb, qc, is_turned, a, b, c):
    """c (m, n) ← op(a) (m, k) op(b) (k, n), p times q times, from places pa, pb, pc and qa, qb, qc elements further on.

    is_turned: a and b are given in the other order.
    """
    x, y = (b, a) if is_turned else (a, b)
    one, zero = c.dtype.type(1), c.dtype.type(0)
    for i in range(p):
        for j in range(q):
            gemm(
                ta != 0, tb != 0, m, n, k, one,
                x, i * pa + j * qa, lda, y, i * pb + j * qb, ldb, zero, c, i * pc + j * qc, ldc,
            )  # fmt: skip
