"""The bytes that a change of layout moves, in closed form: the bound that `comm.boxing` plans attain.

Summed over the cells that two layouts cut a tensor of T bytes into (the law stands in `comm/boxing.py`):

- source not partial: every target rank needs its block and holds part of it already, so
  received = R·T − Σ |cell|·(the most ranks of one target term that hold the cell), with R target replicas;
- source partial with C terms: received = (C + R − 1)·T − Σ |cell| over cells where one rank holds a term and needs
  the value.

Where the target's blocks overlap (windows), T counts the bytes of all of them.

Axes that stay partial multiply T. Only ranks in both placements save anything, so the sums run over these alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

from flowcore.placement.layout import Box, Layout, Shape, blocks, box_size, local_range
from flowcore.placement.mesh import Coordinate
from flowcore.placement.sbp import Broadcast, Partial, Split


def staying_axes(source: Layout, target: Layout) -> frozenset[int]:
    """The mesh axes that are partial with one op on both sides and need no reduction."""
    a, b = source.placement, target.placement
    if not source.is_partial or a.ranks != b.ranks or a.shape != b.shape:
        return frozenset()
    staying: set[int] = set()
    reduced: set[str] = set()
    for axis, (before, after) in enumerate(zip(source.sbp, target.sbp, strict=True)):
        if isinstance(before, Partial):
            if before == after and reduced <= {before.op}:
                staying.add(axis)
            else:
                reduced.add(before.op)
    return frozenset(staying)


@lru_cache(maxsize=65536)
def received_bytes(shape: Shape, itemsize: int, source: Layout, target: Layout) -> int:
    """Bytes received from other ranks, in total over ranks, when a tensor changes from `source` to `target`."""
    if source == target:
        return 0
    form = _form(source.of(len(shape)), target.of(len(shape)))
    total = (prod(shape) if form.target.is_kept else _read_elements(shape, form.target)) * form.staying
    if form.terms > 1:
        return itemsize * (total * (form.terms + form.replicas - 1) - _shared_cells(shape, form, False))
    return itemsize * (total * form.replicas - _shared_cells(shape, form, True))


@dataclass(frozen=True, slots=True)
class _Form:
    """What a change of layout is whatever the shape of the tensor.

    staying: how many terms stay. group, into: the axes whose coordinates name a group, before and after; fresh: those
    along which terms begin. product: see `_product`.
    """

    source: Layout
    target: Layout
    staying: int
    replicas: int
    terms: int
    group: tuple[int, ...]
    into: tuple[int, ...]
    fresh: tuple[int, ...]
    product: _Product | None


@lru_cache(maxsize=65536)
def _form(source: Layout, target: Layout) -> _Form:
    staying = staying_axes(source, target)
    from_mesh, to_mesh = source.placement.shape, target.placement.shape
    terms, fresh = _count(from_mesh, _reduced(source, staying)), tuple(_reduced(target, staying))
    return _Form(
        source, target, _count(from_mesh, staying),
        _count(to_mesh, [axis for axis, part in enumerate(target.sbp) if isinstance(part, Broadcast)]),
        terms, _grouping(source, staying), _grouping(target, staying), fresh,
        _product(source, target, staying, terms > 1) if terms > 1 or not fresh else None,
    )  # fmt: skip


_Product = tuple[int, tuple[tuple[int, int, int], ...], frozenset[int]]


def _product(source: Layout, target: Layout, staying: frozenset[int], reduces: bool) -> _Product | None:
    """`_shared_cells` as a product over mesh axes; None where two axes cut one dimension, in windows, between meshes.

    It is a number, times Σ of the lengths' products over the parts of an axis that cuts one dimension before and
    another after: (these dimensions, parts); times the lengths of the other dimensions: those not in the last set.
    """
    a, b = source.placement, target.placement
    if a.ranks != b.ranks or a.shape != b.shape or not (source.is_kept and target.is_kept):
        return None
    number, pairs, cut = 1, list[tuple[int, int, int]](), set[int]()
    for axis, (parts, before, after) in enumerate(zip(a.shape, source.sbp, target.sbp, strict=True)):
        dims = {part.axis for part in (before, after) if isinstance(part, Split)}
        if not cut.isdisjoint(dims):
            return None
        cut |= dims
        if len(dims) == 2:
            pairs.append((min(dims), max(dims), parts))
        elif not dims and (axis in staying or not reduces):
            number *= parts
    return number, tuple(pairs), frozenset(dim for pair in pairs for dim in pair[:2])


def rounds(source: Layout, target: Layout) -> int:
    """How often ranks wait for each other in a change of layout that moves bytes: to reduce terms, to spread values."""
    is_reduced = _count(source.placement.shape, _reduced(source, staying_axes(source, target))) > 1
    spreads = _count(target.placement.shape, [a for a, part in enumerate(target.sbp) if part == Broadcast()]) > 1
    return 1 + (is_reduced and spreads)


def _read_elements(shape: Shape, target: Layout) -> int:
    """Elements in all the different blocks of a layout with windows, replicas and terms not counted again."""
    mesh = target.placement.shape
    others = _count(mesh, [axis for axis, part in enumerate(target.sbp) if isinstance(part, Broadcast | Partial)])
    return sum(map(box_size, target.boxes(shape).values())) // others


def _shared_cells(shape: Shape, form: _Form, by_rank: bool) -> int:
    """Σ |cell| over cells that a rank holds and needs; `by_rank`: times the most ranks of one target term that do."""
    if form.product is not None:
        size, pairs, paired = form.product
        for first, second, parts in pairs:
            size *= _crossed(shape[first], shape[second], parts)
        return size * prod(length for dim, length in enumerate(shape) if dim not in paired)
    group, into, fresh = form.group, form.into, form.fresh
    overlaps = _overlaps(shape, form.source, form.target)
    if by_rank and not fresh:
        return sum(common for _, _, common in overlaps)
    sizes: dict[tuple[Coordinate, Coordinate], int] = {}
    holders: dict[tuple[Coordinate, Coordinate], dict[Coordinate, int]] = {}
    for at, to, common in overlaps:
        if not common:
            continue
        cell = (tuple([at[axis] for axis in group]), tuple([to[axis] for axis in into]))
        sizes[cell] = common
        if by_rank:
            term = tuple([to[axis] for axis in fresh])
            counts = holders.setdefault(cell, {})
            counts[term] = counts.get(term, 0) + 1
    return sum(size * (max(holders[cell].values()) if by_rank else 1) for cell, size in sizes.items())


@lru_cache(maxsize=4096)
def _crossed(first: int, second: int, parts: int) -> int:
    """Σ over `parts` of the products of what each has of two lengths."""
    places = ((local_range(first, parts, index), local_range(second, parts, index)) for index in range(parts))
    return sum(map(box_size, places))


def _overlaps(shape: Shape, source: Layout, target: Layout) -> Iterator[tuple[Coordinate, Coordinate, int]]:
    """Of every rank in both layouts its coordinates there, and how many elements it holds that it needs."""
    a, b = source.placement, target.placement
    held, needed = blocks(shape, a.shape, source.sbp), blocks(shape, b.shape, target.sbp)
    if a.ranks == b.ranks and a.shape == b.shape:
        places = _places(a.shape)
        return zip(places, places, map(_common_size, held, needed), strict=True)
    return (
        (at, b.coordinate(rank), _common_size(box, needed[b.index(rank)]))
        for (rank, at), box in zip(a.coordinates(), held, strict=True)
        if rank in b
    )


@lru_cache(maxsize=4096)
def _places(mesh: Shape) -> tuple[Coordinate, ...]:
    """Every coordinate of a mesh, in row-major order."""
    return tuple(product(*map(range, mesh)))


def _common_size(a: Box, b: Box) -> int:
    """The number of elements common to `a` and `b`."""
    size = 1
    for (start, stop), (first, last) in zip(a, b, strict=True):
        length = (stop if stop < last else last) - (start if start > first else first)
        if length <= 0:
            return 0
        size *= length
    return size


def _grouping(layout: Layout, staying: frozenset[int]) -> tuple[int, ...]:
    """The axes whose coordinates name a group: split, or staying partial."""
    return tuple(
        axis for axis, part in enumerate(layout.sbp) if not isinstance(part, Broadcast | Partial) or axis in staying
    )


def _reduced(layout: Layout, staying: frozenset[int]) -> list[int]:
    """The partial axes that do not stay."""
    return [axis for axis, part in enumerate(layout.sbp) if isinstance(part, Partial) and axis not in staying]


def _count(mesh: tuple[int, ...], axes: list[int] | frozenset[int]) -> int:
    return prod(mesh[axis] for axis in axes)
