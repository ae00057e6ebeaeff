"""Rows of the functions that create, arrange, search and reduce."""

from __future__ import annotations

from tests.array_api.table import LINES, MATRICES, NOTHING, ONE, Row, rows

CREATION: list[Row] = [
    *rows(
        """
        zeros((2, 3)); zeros(3, dtype='int8'); zeros(())
        ones((2, 0)); ones(3, dtype='complex128')
        empty((2, 3)); empty(2, dtype='uint8')
        full((2, 3), 1.5); full(3, True); full((), 1j); full(2, 7, dtype='float64')
        eye(3); eye(3, 4, k=1); eye(2, 0); eye(3, k=-2, dtype='int64')
        arange(7); arange(1, 8, 3); arange(9, 2, -2); arange(0.0, 1.0, 0.25); arange(3, dtype='uint8'); arange(5, 2)
        linspace(0, 1, 5); linspace(-2.0, 3.0, 7, dtype='float64'); linspace(0, 1, 4, endpoint=False); linspace(0, 1, 0)
        """,
        kinds="f",
        shapes=NOTHING,
        draws=(),
    ),
    *rows(
        "zeros_like(x); zeros_like(x, dtype='int16')\nones_like(x)\nempty_like(x)\n"
        "full_like(x, 1); full_like(x, 1.5, dtype='float32')",
        kinds="biufc",
    ),
    *rows("asarray(x); asarray(x, copy=True)", kinds="biufc"),
    *rows("tril(x); tril(x, k=1)\ntriu(x); triu(x, k=-1)", kinds="biufc", shapes=MATRICES),
    *rows(
        "meshgrid(x, y)[0]; meshgrid(x, y, indexing='ij')[1]",
        shapes=(((3,), (4,)), ((0,), (2,))),
        draws=("normal",) * 2,
    ),
]

ARRANGED: list[Row] = [
    *rows("astype(x, 'float64'); astype(x, 'float32')", kinds="biuf"),
    *rows("astype(x, 'complex128')", kinds="fc"),
    *rows(
        """
        reshape(x, (-1,)); reshape(x, (1, 5, 7))
        permute_dims(x, (1, 0))
        squeeze(xp.reshape(x, (5, 1, 7, 1)), axis=1); squeeze(xp.reshape(x, (5, 1, 7, 1)), axis=(1, 3))
        broadcast_to(x, (2, 5, 7))
        repeat(x, 2); repeat(x, 3, axis=1); repeat(x, 0, axis=0)
        """,
        kinds="biufc",
        shapes=(((5, 7),),),
    ),
    *rows(
        """
        flip(x); flip(x, axis=-1)
        roll(x, 2); roll(x, -1, axis=0); roll(x, (1, 9), axis=(0, -1))
        moveaxis(x, 0, -1)
        expand_dims(x, axis=0); expand_dims(x, axis=-1)
        tile(x, (2,)); tile(x, (2, 1, 3))
        unstack(x)[1]; unstack(x, axis=-1)[0]
        stack([x, x]); stack([x, x], axis=-1)
        concat([x, x]); concat([x, x], axis=None)
        """,
        kinds="biufc",
        shapes=LINES,
    ),
    *rows(
        "broadcast_arrays(x, y)[0]; broadcast_arrays(x, y)[1]",
        shapes=(((5, 1), (7,)), ((), (3,))),
        draws=("normal",) * 2,
    ),
]

FOUND: list[Row] = [
    *rows(
        "take(x, y, axis=0); take(x, y, axis=-1)", kinds="biufc", shapes=(((5, 7), (4,)),), draws=("normal", "index:5")
    ),
    *rows(
        "take_along_axis(x, y); take_along_axis(x, y, axis=0)",
        shapes=(((5, 5), (5, 5)), ((5, 5), (1, 1))),
        draws=("normal", "index:5"),
    ),
    *rows("argmax(x); argmax(x, axis=0, keepdims=True)\nargmin(x); argmin(x, axis=-1)", kinds="iuf", shapes=LINES),
    *rows(
        "count_nonzero(x); count_nonzero(x, axis=0); count_nonzero(x, axis=-1, keepdims=True)",
        kinds="biufc",
        shapes=LINES,
    ),
    *rows("nonzero(x)[0]", kinds="biufc", shapes=LINES),
    *rows(
        "sort(x); sort(x, axis=0, descending=True)\nargsort(x); argsort(x, axis=0, descending=True)",
        kinds="iuf",
        shapes=LINES,
    ),
    *rows(
        "searchsorted(xp.sort(x), y); searchsorted(xp.sort(x), y, side='right')",
        kinds="iuf",
        shapes=(((7,), (5, 3)), ((7,), ())),
        draws=("normal",) * 2,
    ),
    *rows("isin(x, y); isin(x, y, invert=True)", kinds="iuf", shapes=(((5, 7), (4,)),), draws=("whole", "whole")),
    *rows(
        "unique_values(x)\nunique_counts(x)[1]\nunique_inverse(x)[1]\nunique_all(x)[1]",
        kinds="iu",
        shapes=LINES,
        draws=("whole",),
    ),
    *rows("any(x); any(x, axis=0)\nall(x); all(x, axis=-1, keepdims=True)", kinds="biufc", shapes=ONE[1:]),
]

REDUCED: list[Row] = [
    *rows(
        "sum(x); sum(x, axis=0); sum(x, axis=-1, keepdims=True); sum(x, dtype='float64')", kinds="iuf", shapes=ONE[1:]
    ),
    *rows("sum(x); sum(x, axis=-1)", kinds="c", shapes=ONE[1:]),
    *rows("max(x); max(x, axis=0)\nmin(x); min(x, axis=-1, keepdims=True)", kinds="iuf", shapes=LINES),
    *rows("mean(x); mean(x, axis=0); mean(x, axis=-1, keepdims=True)", kinds="fc", shapes=LINES),
]
REDUCED += [
    *rows("prod(x); prod(x, axis=0); prod(x, axis=-1, keepdims=True)", kinds="iu", shapes=ONE[1:], draws=("whole",)),
    *rows(
        "prod(x); prod(x, axis=())\nsum(x); sum(x, axis=())", kinds="iu", shapes=(((),), ((5, 7),)), draws=("whole",)
    ),
    *rows("prod(x); prod(x, axis=-1)", kinds="fc", shapes=ONE[1:], draws=("positive",), tolerance=100),
    *rows(
        "var(x); var(x, axis=0); var(x, axis=-1, correction=1, keepdims=True)\n"
        "std(x); std(x, axis=-1); std(x, axis=0, correction=0.5)",
        kinds="f",
        shapes=LINES,
    ),
    *rows(
        """
        cumulative_sum(x, axis=-1); cumulative_sum(x, axis=0, include_initial=True)
        cumulative_prod(x, axis=-1); cumulative_prod(x, axis=0, include_initial=True)
        """,
        kinds="iu",
        shapes=LINES,
        draws=("whole",),
    ),
    *rows(
        "cumulative_sum(x, axis=-1)\ncumulative_prod(x, axis=0)",
        kinds="fc",
        shapes=LINES,
        draws=("positive",),
        tolerance=100,
    ),
    *rows("diff(x); diff(x, axis=0, n=2); diff(x, axis=0, prepend=x); diff(x, append=x)", kinds="iufc", shapes=LINES),
]
PRODUCTS: list[Row] = [
    *rows(
        "matmul(x, y); x @ y", shapes=(((5, 7), (7, 4)), ((7,), (7,)), ((2, 5, 7), (7, 3))), draws=("whole", "whole")
    ),
    *rows("tensordot(x, y); tensordot(x, y, axes=1)", shapes=(((4, 7, 7), (7, 7, 3)),), draws=("whole", "whole")),
]
