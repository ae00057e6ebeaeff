"""The kernel of convolution: patches of x are gathered into a buffer of bounded size, and matrices multiplied.

A patch is what one row p of y sees of x: x[…, p·stride + k·dilation − before] for all k. The patches of x framed by
zeros are a view with overlapping strides; only pieces of it, for some samples and rows, are ever copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product as indices
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from flowcore.op import Array
from flowcore.ops.contract import grouping, product
from flowcore.placement.layout import Shape
from flowcore.placement.signature import Equation

GATHERED_BYTES = 4 << 20
"""Bytes of patches that are gathered at once."""
ROWS, TAPS = "PQR", "KLM"


@dataclass(frozen=True)
class Frame:
    """Where along every spatial dimension x lies in its frame: `low` zeros in front (if negative, x is cut)."""

    low: tuple[int, ...]
    spans: Shape

    def around(self, x: Array) -> Array:
        """x with zeros around it, or a view where none are needed."""
        lead, lengths = x.ndim - len(self.spans), x.shape[x.ndim - len(self.spans) :]
        inside, held = self._common(lengths)
        if all(span == stop - start for span, (start, stop) in zip(self.spans, inside, strict=True)):
            return _part(x, held)
        framed = np.zeros((*x.shape[:lead], *self.spans), x.dtype)
        _part(framed, inside)[...] = _part(x, held)
        return framed

    def out_of(self, framed: Array, lengths: Shape) -> Array:
        """x of spatial `lengths`: what the frame holds of it, zeros elsewhere."""
        inside, held = self._common(lengths)
        if all(length == stop - start for length, (start, stop) in zip(lengths, held, strict=True)):
            return _part(framed, inside)
        x = np.zeros((*framed.shape[: framed.ndim - len(lengths)], *lengths), framed.dtype)
        _part(x, held)[...] = _part(framed, inside)
        return x

    def _common(self, lengths: Shape) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """What the frame and x have in common, as ranges of the frame and of x."""
        inside, held = [], []
        for low, span, length in zip(self.low, self.spans, lengths, strict=True):
            start, stop = max(low, 0), max(min(low + length, span), max(low, 0))
            inside.append((start, stop))
            held.append((start - low, stop - low))
        return inside, held


def _part(x: Array, ranges: list[tuple[int, int]]) -> Array:
    """The view of these ranges of the last dimensions."""
    key: Any = (..., *(slice(start, stop) for start, stop in ranges))
    return np.asarray(x[key])


def form_product(
    terms: Mapping[str, str],
    given: Mapping[str, Array],
    result: str,
    lengths: Shape,
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    before: tuple[int, ...],
) -> Array:
    """What multiplies the tensor `result` in the form of `ops/convolve.py`, from the two tensors in `given`."""
    spatial = {role: array.shape[len(terms[role]) :] for role, array in given.items()} | {result: lengths}
    size = dict(pair for role, array in given.items() for pair in zip(terms[role], array.shape, strict=False))
    shape = (*(size[letter] for letter in terms[result]), *lengths)
    (first, second), rows, taps = given.values(), spatial["y"], spatial["w"]
    if 0 in (*shape, *first.shape, *second.shape):
        return np.zeros(shape, first.dtype)
    spans = tuple((p - 1) * s + (k - 1) * d + 1 for p, s, k, d in zip(rows, strides, taps, dilations, strict=True))
    frame, count = Frame(before, spans), len(lengths)
    patches, y, w = terms["x"] + ROWS[:count] + TAPS[:count], terms["y"] + ROWS[:count], terms["w"] + TAPS[:count]
    lead = tuple(size[letter] for letter in terms["x"])
    x = np.zeros((*lead, *spans), first.dtype) if result == "x" else frame.around(given["x"])
    assert x.shape == (*lead, *spans), f"patches of {x.shape} outside {lead} and {spans}"
    view = as_strided(x, (*lead, *rows, *taps), _strides(x, strides, dilations), writeable=result == "x")
    pieces = _pieces(terms, view)
    match result:
        case "y":
            group = grouping(Equation((w, patches), (y,)))
            out = np.empty(shape, first.dtype)
            for of_x, of_y, of_w in pieces:
                out[of_y] = product(group, given["w"][of_w], view[of_x])
            return out
        case "w":
            group = grouping(Equation((patches, y), (w,)))
            out = np.zeros(shape, first.dtype)
            for of_x, of_y, of_w in pieces:
                out[of_w] += product(group, view[of_x], given["y"][of_y])
            return out
    group = grouping(Equation((w, y), (patches,)))
    for of_x, of_y, of_w in pieces:
        found, target = product(group, given["w"][of_w], given["y"][of_y]), view[of_x]
        for tap in indices(*map(range, taps)):
            at: Any = (..., *tap)
            target[at] += found[at]
    return frame.out_of(x, lengths)


def _strides(x: Array, strides: tuple[int, ...], dilations: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of the patches of x: of what leads, then of rows, then of taps."""
    lead, inner = x.strides[: x.ndim - len(strides)], x.strides[x.ndim - len(strides) :]
    by_row = (step * stride for step, stride in zip(strides, inner, strict=True))
    by_tap = (step * stride for step, stride in zip(dilations, inner, strict=True))
    return (*lead, *by_row, *by_tap)


def _pieces(terms: Mapping[str, str], view: Array) -> Iterator[tuple[Any, Any, Any]]:
    """Indices of (patches, y, w) that cut the work along one letter of both x and y and the first rows."""
    letter = next((letter for letter in terms["x"] if letter in terms["y"]), None)
    lead = len(terms["x"])
    samples = 1 if letter is None else view.shape[terms["x"].index(letter)]
    rows = view.shape[lead]
    units = max(1, GATHERED_BYTES * samples * rows // (view.size * view.itemsize))
    by_sample, by_row = (max(1, units // rows), rows) if units >= rows else (1, units)
    for sample, row in indices(range(0, samples, by_sample), range(0, rows, by_row)):
        at_letter, at_row = slice(sample, sample + by_sample), slice(row, row + by_row)
        x, y, w = (tuple(at_letter if own == letter else slice(None) for own in terms[role]) for role in "xyw")
        yield (*x, at_row), (*y, at_row), w
