"""Which block of a tensor each rank holds: a layout is a placement and an nd-SBP, and gives a box per rank.

The laws (tested as properties): along a split axis the boxes of the ranks partition the box they split; along a
broadcast or partial axis they coincide with it; along a window axis they may overlap, and leave rows out. Uneven and
empty boxes are ordinary boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from flowcore.placement.errors import PlacementError
from flowcore.placement.mesh import Coordinate, Placement, parse_placement
from flowcore.placement.sbp import (
    SBP,
    Broadcast,
    NdSbp,
    Partial,
    SbpLike,
    Split,
    Window,
    nd_sbp,
    normalize,
    parse_nd_sbp,
)

Shape = tuple[int, ...]
Box = tuple[tuple[int, int], ...]
"""Half-open (start, stop) per dimension."""


def local_range(length: int, parts: int, index: int) -> tuple[int, int]:
    """(start, stop) of part `index` when `length` rows are split over `parts`; the first parts take the remainder."""
    if not 0 <= index < parts:
        raise PlacementError(f"rank {index} is outside 0..{parts - 1}: the mesh axis has {parts} ranks")
    base, extra = divmod(length, parts)
    start = index * base + min(index, extra)
    return start, start + base + (index < extra)


def window_range(window: Window, length: int, parts: int, index: int) -> tuple[int, int]:
    """(start, stop) of the `length` rows that part `index` of `parts` of the result reads."""
    first, last = local_range(window.rows, parts, index)
    start = min(max(-(-(first * window.step + window.low) // window.per), 0), length)
    stop = min(((last - 1) * window.step + window.high) // window.per + 1, length)
    return start, max(start, stop) if first < last else start


def box_shape(box: Box) -> Shape:
    """The length of `box` along every dimension."""
    return tuple(stop - start for start, stop in box)


def box_size(box: Box) -> int:
    """The number of elements in `box`."""
    return prod(stop - start for start, stop in box)


def intersect(a: Box, b: Box) -> Box | None:
    """The box common to `a` and `b`; None where they share no element."""
    common = tuple((max(x[0], y[0]), min(x[1], y[1])) for x, y in zip(a, b, strict=True))
    return common if all(start < stop for start, stop in common) else None


def whole(shape: Sequence[int]) -> Box:
    """The box that covers a tensor of `shape`."""
    return tuple((0, length) for length in shape)


@dataclass(frozen=True, init=False, slots=True)
class Layout:
    """Where a tensor lies and how: a placement and one SBP per axis of its mesh."""

    placement: Placement
    sbp: NdSbp
    _hash: int
    _text: str

    def __init__(self, placement: Placement, sbp: SbpLike) -> None:
        object.__setattr__(self, "placement", placement)
        object.__setattr__(self, "sbp", nd_sbp(sbp, placement.axes))
        object.__setattr__(self, "_hash", hash((placement, self.sbp)))
        object.__setattr__(self, "_text", f"{placement}:{sbp_text(self.sbp)}")

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[object, ...]:
        return (Layout, (self.placement, self.sbp))

    def of(self, ndim: int) -> Layout:
        """This layout with split dimensions counted from 0, checked against a tensor of `ndim` dimensions."""
        sbp = normalize(self.sbp, ndim)
        return self if sbp == self.sbp else Layout(self.placement, sbp)

    def box(self, shape: Shape, rank: int) -> Box:
        """The block of a tensor of `shape` that `rank` holds (of full shape along partial axes)."""
        return block(shape, self.placement.shape, self.sbp, self.placement.coordinate(rank))

    def boxes(self, shape: Shape) -> dict[int, Box]:
        """The block of every rank."""
        mesh = self.placement.shape
        return {rank: block(shape, mesh, self.sbp, at) for rank, at in self.placement.coordinates()}

    @property
    def is_partial(self) -> bool:
        """Whether some axis holds terms rather than values."""
        return any(isinstance(part, Partial) for part in self.sbp)

    @property
    def is_kept(self) -> bool:
        """Whether a tensor can lie so; windows are only read."""
        return not any(isinstance(part, Window) for part in self.sbp)

    @property
    def is_broadcast(self) -> bool:
        """Whether every rank holds the whole value."""
        return all(isinstance(part, Broadcast) for part in self.sbp)

    def __str__(self) -> str:
        return self._text


def kept(layout: Layout) -> Layout:
    """`layout` itself; PlacementError where no tensor can lie so."""
    if not layout.is_kept:
        raise PlacementError(f"{layout} is a window, in which operators read but no tensor lies: use S, B or P")
    return layout


def sbp_text(sbp: NdSbp) -> str:
    """An nd-SBP as text that `parse_nd_sbp` reads back."""
    return ",".join(map(str, sbp))


def parse_layout(text: str) -> Layout:
    """The layout that `str(layout)` writes, as `[0 1|x=2]:S0`."""
    placement, _, sbp = text.rpartition("]:")
    return Layout(parse_placement(placement + "]"), parse_nd_sbp(sbp))


@lru_cache(maxsize=65536)
def block(shape: Shape, mesh: Shape, sbp: NdSbp, at: Coordinate) -> Box:
    """The box that the rank at coordinate `at` of a mesh of shape `mesh` holds of a tensor of `shape`."""
    box = whole(shape)
    for part, parts, index in zip(sbp, mesh, at, strict=True):
        box = _narrowed(box, part, parts, index)
    return box


@lru_cache(maxsize=4096)
def blocks(shape: Shape, mesh: Shape, sbp: NdSbp) -> tuple[Box, ...]:
    """The box of every rank of a mesh, in row-major order."""
    boxes = [whole(shape)]
    for part, parts in zip(sbp, mesh, strict=True):
        boxes = [_narrowed(box, part, parts, index) for box in boxes for index in range(parts)]
    return tuple(boxes)


def _narrowed(box: Box, part: SBP, parts: int, index: int) -> Box:
    """What rank `index` of an axis of `parts` holds of `box`."""
    if not isinstance(part, Split | Window):
        return box
    start, stop = box[part.axis]
    given = (stop - start, parts, index)
    low, high = local_range(*given) if isinstance(part, Split) else window_range(part, *given)
    narrowed = list(box)
    narrowed[part.axis] = (start + low, start + high)
    return tuple(narrowed)
