"""Rows of the linear algebra; factors, which are not unique, are multiplied together again."""

from __future__ import annotations

from tests.array_api.table import MATRICES, Row, rows

SQUARE = (((4, 4),), ((2, 3, 3),))
PAIR = ("normal", "normal")

LINALG: list[Row] = [
    *rows("matrix_transpose(x); x.mT\nlinalg.matrix_transpose(x)", kinds="biufc", shapes=MATRICES),
    *rows(
        "vecdot(x, y); vecdot(x, y, axis=-2)\nlinalg.vecdot(x, y)",
        kinds="fc",
        shapes=(((5, 7), (5, 7)), ((3, 5, 4), (5, 4))),
        draws=PAIR,
    ),
    *rows("linalg.diagonal(x); linalg.diagonal(x, offset=1)", kinds="biufc", shapes=MATRICES),
    *rows("linalg.trace(x); linalg.trace(x, offset=-1)", kinds="fc", shapes=MATRICES),
    *rows("linalg.trace(x); linalg.trace(x, dtype='int8')", kinds="iu", shapes=MATRICES, draws=("whole",)),
    *rows("linalg.outer(x, y)", shapes=(((5,), (7,)), ((0,), (3,))), draws=PAIR),
    *rows("linalg.cross(x, y)", shapes=(((5, 3), (5, 3)), ((3,), (3,))), draws=("whole", "whole")),
    *rows("linalg.matmul(x, y)", shapes=(((5, 7), (7, 4)),), draws=("whole", "whole")),
    *rows("linalg.tensordot(x, y, axes=1)", shapes=(((5, 7), (7, 4)),), draws=("whole", "whole")),
    *rows(
        """
        linalg.det(x)
        linalg.inv(x)
        linalg.slogdet(x)[0]; linalg.slogdet(x)[1]
        linalg.matrix_power(x, 3); linalg.matrix_power(x, 0); linalg.matrix_power(x, -1)
        linalg.svdvals(x)
        """,
        kinds="fc",
        shapes=SQUARE,
        tolerance=100,
    ),
    *rows(
        """
        linalg.matrix_norm(x); linalg.matrix_norm(x, ord='nuc', keepdims=True); linalg.matrix_norm(x, ord=1)
        linalg.matrix_rank(x)
        linalg.pinv(x)
        linalg.vector_norm(x); linalg.vector_norm(x, axis=-1, keepdims=True); linalg.vector_norm(x, axis=0, ord=1)
        """,
        kinds="fc",
        shapes=MATRICES,
        tolerance=100,
    ),
    *rows(
        """
        linalg.cholesky(x); linalg.cholesky(x, upper=True)
        linalg.eigvalsh(x)
        """,
        kinds="fc",
        shapes=SQUARE,
        draws=("definite",),
        tolerance=100,
    ),
    Row(
        "linalg.eigh",
        ("(lambda w, v: (v * xp.expand_dims(w, axis=-2)) @ xp.conj(xp.matrix_transpose(v)))(*xp.linalg.eigh(x))",),
        "fc",
        SQUARE,
        ("definite",),
        100,
    ),
    Row(
        "linalg.qr",
        ("(lambda q, r: q @ r)(*xp.linalg.qr(x))", "(lambda q, r: q @ r)(*xp.linalg.qr(x, mode='complete'))"),
        "fc",
        MATRICES,
        tolerance=100,
    ),
    Row(
        "linalg.svd",
        ("(lambda u, s, v: (u * xp.expand_dims(s, axis=-2)) @ v)(*xp.linalg.svd(x, full_matrices=False))",),
        "fc",
        MATRICES,
        tolerance=100,
    ),
    *rows(
        "linalg.solve(x, y)", kinds="fc", shapes=(((4, 4), (4, 2)), ((2, 3, 3), (2, 3, 1))), draws=PAIR, tolerance=1000
    ),
]
