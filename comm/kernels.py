"""Terms reduced into an array in one pass over memory, with equal results whatever does it.

Sums of floats are compiled where numba is installed (`compiled`), which is loaded after some reductions that gain by
it: numpy adds two terms as fast unless the result is larger than a cache. Everything else is done by numpy, piece by
piece, so that partial sums stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import count
from typing import Any

import numpy as np

from flowcore.comm.reduction import Levels, is_narrow, reduce_terms

Array = np.ndarray[Any, Any]
PIECE = 128 << 10
"""Bytes of the result that are reduced at a time."""
LARGE, STREAM = 64 << 10, 16 << 20
"""Bytes of a result from which numba gains: of three terms or more, and of two."""
PATIENCE = 8
"""Reductions that numpy does before numba is loaded for those that follow."""
_large = count()


def reduce_fused(terms: Sequence[Array], levels: Levels, out: Array) -> None:
    """As `reduce_terms`, bit for bit; one term is copied. `out` overlaps no term."""
    if len(terms) == 1:
        np.copyto(out, terms[0])
        return
    if gains(len(terms), out.nbytes) and out.dtype.char in "fd" and len(levels) == 1 and levels[0][1] == "sum":
        add = _compiled_sum() if next(_large) >= PATIENCE else None
        if add is not None and add(terms, out):
            return
    if out.dtype.kind in "iub":
        _by_pieces(terms, levels, out)
    else:
        with np.errstate(all="ignore"):
            _by_pieces(terms, levels, out)


def gains(terms: int, size: int) -> bool:
    """Whether a compiled sum of so many terms into `size` bytes is faster than numpy's."""
    return size >= (LARGE if terms > 2 else STREAM)


@cache
def _compiled_sum() -> Callable[[Sequence[Array], Array], bool] | None:
    """`compiled.sum_into`; None where numba is not installed."""
    if find_spec("numba") is None:
        return None
    from flowcore.comm.compiled import sum_into  # late: importing numba costs more than most reductions

    return sum_into


def _by_pieces(terms: Sequence[Array], levels: Levels, out: Array) -> None:
    if (len(terms) <= 2 and not is_narrow(out.dtype)) or out.nbytes <= PIECE:
        reduce_terms(terms, levels, out)
        return
    dimension = next((d for d, length in enumerate(out.shape) if length > 1), 0)
    rows = max(1, PIECE * out.shape[dimension] // out.nbytes)
    for start in range(0, out.shape[dimension], rows):
        index = (slice(None),) * dimension + (slice(start, start + rows),)
        reduce_terms([term[index] for term in terms], levels, out[index])
