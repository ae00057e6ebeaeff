"""Terms reduced into an array in one pass over memory: piece by piece, so that partial sums stay in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowcore.comm.reduction import Levels, reduce_terms

Array = np.ndarray[Any, Any]
PIECE = 128 << 10
"""Bytes of the result that are reduced at a time."""


def reduce_blocked(terms: Sequence[Array], levels: Levels, out: Array) -> None:
    """As `reduce_terms`, bit for bit; one term is copied."""
    if len(terms) == 1:
        np.copyto(out, terms[0])
        return
    if len(terms) <= 2 or out.nbytes <= PIECE:
        reduce_terms(terms, levels, out)
        return
    dimension = next((d for d, length in enumerate(out.shape) if length > 1), 0)
    rows = max(1, PIECE * out.shape[dimension] // out.nbytes)
    for start in range(0, out.shape[dimension], rows):
        index = (slice(None),) * dimension + (slice(start, start + rows),)
        reduce_terms([term[index] for term in terms], levels, out[index])
