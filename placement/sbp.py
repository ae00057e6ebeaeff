"""How a tensor is laid along one mesh axis: split, broadcast or partial (SBP), and the text forms of these.

A tensor with logical value *T* on an axis of *p* ranks is, on rank *r*:

- `S(i)`: the *r*-th of *p* balanced slices of *T* along dimension *i* (the first ranks take the remainder);
- `B`: *T* itself;
- `P(op)`: a term *T_r* of full shape with `T = op_r T_r`, op one of sum, max, min.

An nd-SBP holds one SBP per mesh axis and is applied from left to right: the second axis lays out what the first
axis gave each of its ranks.

Operators that look around themselves (convolution, pooling) also *read* in a fourth way, a split with overlap: `W`, a
`Window`. Each rank has the rows that its part of the result needs. No tensor is kept so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowcore.placement.errors import PlacementError

REDUCTIONS = ("sum", "max", "min")


@dataclass(frozen=True, slots=True)
class Split:
    """Split along tensor dimension `axis`, balanced; the first ranks take the remainder."""

    axis: int

    def __post_init__(self) -> None:
        if isinstance(self.axis, bool) or not isinstance(self.axis, int):
            raise PlacementError(f"S({self.axis!r}): the split dimension must be an int; pass one, as in S(0)")

    def __str__(self) -> str:
        return f"S{self.axis}" if self.axis >= 0 else f"S({self.axis})"


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Every rank holds the whole tensor."""

    def __str__(self) -> str:
        return "B"


@dataclass(frozen=True, slots=True)
class Partial:
    """Every rank holds a term of full shape; the value is the `op` (sum, max, min) of the terms."""

    op: str = "sum"

    def __post_init__(self) -> None:
        if self.op not in REDUCTIONS:
            raise PlacementError(f"P({self.op}): a partial value is a {', '.join(REDUCTIONS)}; use one of them")

    def __str__(self) -> str:
        return "P" if self.op == "sum" else f"P({self.op})"


@dataclass(frozen=True, slots=True)
class Window:
    """Along tensor dimension `axis` each rank reads the rows that its part of an operator's result needs.

    The result has `rows` rows, in balanced parts; the part of a rank, a..b, needs the rows i for which
    a·step + low <= i·per <= (b − 1)·step + high, of those that there are.
    """

    axis: int
    rows: int
    step: int
    per: int
    low: int
    high: int

    def __post_init__(self) -> None:
        if min(self.axis, self.rows, self.step) < 0 or self.per < 1:
            raise PlacementError(f"{self}: a window needs axis, rows and step >= 0 and per >= 1; give it such")

    def __str__(self) -> str:
        return f"W{self.axis}({self.rows}*{self.step}/{self.per}{self.low:+d}{self.high:+d})"


SBP = Split | Broadcast | Partial | Window
NdSbp = tuple[SBP, ...]
SbpLike = SBP | str | Sequence[SBP | str] | Mapping[str, SBP | str]

S = Split
B = Broadcast()
P = Partial()

_TEXT = re.compile(r"S\((-?\d+)\)|S(\d+)|B|P\((sum|max|min)\)|P")
_WINDOW = re.compile(r"W(\d+)\((\d+)\*(\d+)/(\d+)([+-]\d+)([+-]\d+)\)")


def parse_sbp(text: str) -> SBP:
    """The SBP written as `S0`, `S(0)`, `S(-1)`, `B`, `P`, `P(sum)`, `P(max)` or `P(min)`."""
    found = _TEXT.fullmatch(text.strip())
    window = _WINDOW.fullmatch(text.strip())
    if window is not None:
        return Window(*map(int, window.groups()))
    if found is None:
        raise PlacementError(f"unknown sbp {text!r}: write S0, S(-1), B, P, P(max) or P(min)")
    if found[0] == "B":
        return B
    if found[0].startswith("S"):
        return Split(int(found[1] or found[2]))
    return Partial(found[3] or "sum")


def parse_nd_sbp(text: str) -> NdSbp:
    """The nd-SBP written with commas, as `S0,B`."""
    return tuple(parse_sbp(part) for part in text.split(","))


def nd_sbp(sbp: SbpLike, axes: Sequence[str]) -> NdSbp:
    """`sbp` in any accepted form as one SBP per mesh axis of `axes`.

    A single SBP fits a one-axis mesh, or is `B`; a mapping names axes, the others are B; text is split at commas.
    """
    parts = stated(sbp, axes)
    if parts == (B,):
        return (B,) * len(axes)
    if len(parts) != len(axes):
        shown = ",".join(map(str, parts))
        raise PlacementError(
            f"sbp {shown} has {len(parts)} entries but the mesh has {len(axes)} axes {tuple(axes)}: give one per axis"
        )
    return parts


def stated(sbp: SbpLike, axes: Sequence[str] | None = None) -> NdSbp:
    """What `sbp` says, on a mesh of `axes` or on any; PlacementError where it says nothing."""
    match sbp:
        case str():
            return parse_nd_sbp(sbp)
        case Split() | Broadcast() | Partial() | Window():
            return (sbp,)
        case Mapping():
            known = tuple(sbp) if axes is None else tuple(axes)
            unknown = [name for name in sbp if name not in known]
            if unknown:
                raise PlacementError(f"unknown mesh axis {unknown[0]!r}: the mesh has axes {known}: name one of them")
            return tuple(_one(sbp.get(name, B)) for name in known)
        case Sequence():
            return tuple(_one(part) for part in sbp)
    raise PlacementError(f"unknown sbp {sbp!r}: pass S(i), B, P, a tuple of them, a dict by axis, or text")


def _one(sbp: object) -> SBP:
    if isinstance(sbp, str):
        return parse_sbp(sbp)
    if isinstance(sbp, Split | Broadcast | Partial | Window):
        return sbp
    raise PlacementError(f"unknown sbp {sbp!r}: pass S(i), B, P or their text")


def normalize(sbp: NdSbp, ndim: int) -> NdSbp:
    """`sbp` with every split dimension counted from 0; PlacementError where one is beyond a tensor of `ndim`."""
    return tuple(_counted(part, ndim) for part in sbp)


def _counted(sbp: SBP, ndim: int) -> SBP:
    if not isinstance(sbp, Split | Window):
        return sbp
    if not -ndim <= sbp.axis < ndim:
        raise PlacementError(f"S({sbp.axis}) splits a dimension that a tensor with {ndim} dimensions does not have")
    return sbp if isinstance(sbp, Window) or sbp.axis >= 0 else Split(sbp.axis + ndim)
