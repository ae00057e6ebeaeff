"""Where tensors live: a placement is a set of ranks arranged in a grid with named axes, in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from flowcore.placement.errors import PlacementError

Coordinate = tuple[int, ...]


class _World:
    """The number of ranks of the world, asked only when a placement names 'all ranks'."""

    size: Callable[[], int] = staticmethod(lambda: 1)


def set_world_size(size: Callable[[], int]) -> None:
    """Let `Placement.grid` and `Placement.world` ask `size` how many ranks the world has."""
    _World.size = staticmethod(size)


@dataclass(frozen=True, init=False, slots=True, eq=False)
class Placement:
    """Ranks in row-major order of a grid `shape` with named `axes`.

    `ranks`: an int n (the ranks 0..n-1), a sequence, or a nested sequence / integer array, whose shape is the grid.
    `axes`: one name per dimension of the grid; by default "x" for one axis and "x0", "x1", … for several.
    """

    ranks: tuple[int, ...]
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    device: str
    _hash: int
    _index: dict[int, int]
    _text: str

    def __init__(self, ranks: Any, axes: str | Sequence[str] | None = None, device: str = "cpu") -> None:
        flat, shape = _flatten(ranks)
        names = _axis_names(axes, len(shape))
        _check_ranks(flat)
        if device != "cpu":
            raise PlacementError(f"device {device!r} is not available: this version runs on 'cpu'")
        index = {rank: position for position, rank in enumerate(flat)}
        sizes = ",".join(f"{name}={length}" for name, length in zip(names, shape, strict=True))
        text = f"[{' '.join(map(str, flat))}|{sizes}]"
        values = (flat, shape, names, device, hash((flat, shape, names, device)), index, text)
        for name, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, name, value)

    @classmethod
    def grid(cls, **axes: int) -> Placement:
        """All ranks of the world in row-major order on the named axes; one size may be -1: whatever is left.

        Without axes: the whole world as one axis "x".
        """
        world = _World.size()
        sizes = dict(axes) or {"x": -1}
        free = [name for name, size in sizes.items() if size == -1]
        fixed = prod(size for size in sizes.values() if size != -1)
        if len(free) > 1:
            raise PlacementError(f"axes {free} are all -1: at most one size can be left open")
        if any(size < 1 and size != -1 for size in sizes.values()):
            raise PlacementError(f"axis sizes {sizes} must be positive, or -1 once")
        if free:
            sizes[free[0]] = world // fixed
        if prod(sizes.values()) != world:
            raise PlacementError(
                f"a grid of {sizes} needs {prod(sizes.values()) or fixed} ranks but the world has {world}: "
                f"launch that many, or give sizes whose product is {world}"
            )
        return cls._of(tuple(range(world)), tuple(sizes.values()), tuple(sizes))

    @classmethod
    def _of(cls, ranks: tuple[int, ...], shape: tuple[int, ...], axes: tuple[str, ...]) -> Placement:
        return cls(_nest(ranks, shape), axes)

    @property
    def size(self) -> int:
        """The number of ranks."""
        return len(self.ranks)

    @property
    def ndim(self) -> int:
        """The number of mesh axes."""
        return len(self.shape)

    def __contains__(self, rank: object) -> bool:
        return rank in self._index

    def __iter__(self) -> Iterator[int]:
        return iter(self.ranks)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Placement) and self._text == other._text and self.device == other.device

    def __reduce__(self) -> tuple[Any, ...]:
        return (Placement, (_nest(self.ranks, self.shape), self.axes, self.device))

    def index(self, rank: int) -> int:
        """The row-major position of `rank` in the grid."""
        try:
            return self._index[rank]
        except KeyError:
            raise PlacementError(f"rank {rank} is not in {self}: use one of its ranks") from None

    def coordinate(self, rank: int) -> Coordinate:
        """The position of `rank` along every axis."""
        position, result = self.index(rank), []
        for length in reversed(self.shape):
            position, offset = divmod(position, length)
            result.append(offset)
        return tuple(reversed(result))

    def coordinates(self) -> Iterator[tuple[int, Coordinate]]:
        """Every (rank, coordinate), in row-major order."""
        return zip(self.ranks, product(*map(range, self.shape)), strict=True)

    def axis(self, name: str) -> int:
        """The index of the mesh axis called `name`."""
        if name not in self.axes:
            raise PlacementError(f"unknown mesh axis {name!r}: the mesh has axes {self.axes}: name one of them")
        return self.axes.index(name)

    def split(self, name: str) -> list[Placement]:
        """One placement per index of axis `name`: the grid without that axis (a single rank keeps an axis of 1)."""
        axis = self.axis(name)
        rest = self.axes[:axis] + self.axes[axis + 1 :] or (name,)
        shape = self.shape[:axis] + self.shape[axis + 1 :] or (1,)
        members: list[list[int]] = [[] for _ in range(self.shape[axis])]
        for rank, coordinate in self.coordinates():
            members[coordinate[axis]].append(rank)
        return [Placement._of(tuple(ranks), shape, rest) for ranks in members]

    def groups(self, axis: int) -> list[tuple[int, ...]]:
        """The ranks of every line of the grid along mesh axis number `axis`, each in order along it."""
        lines: dict[Coordinate, list[int]] = {}
        for rank, coordinate in self.coordinates():
            lines.setdefault(coordinate[:axis] + coordinate[axis + 1 :], []).append(rank)
        return [tuple(line) for line in lines.values()]

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Placement({_nest(self.ranks, self.shape)}, axes={self.axes})"


def parse_placement(text: str) -> Placement:
    """The placement that `str(placement)` writes, as `[0 1 2 3|data=2,model=2]`."""
    try:
        ranks, sizes = text.strip().removeprefix("[").removesuffix("]").split("|")
        axes = [part.split("=") for part in sizes.split(",")]
        shape = tuple(int(length) for _, length in axes)
        return Placement._of(tuple(map(int, ranks.split())), shape, tuple(name for name, _ in axes))
    except ValueError:
        raise PlacementError(f"cannot read placement {text!r}: write it as [0 1 2 3|data=2,model=2]") from None


def _flatten(ranks: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ranks in row-major order and the shape of their grid."""
    if hasattr(ranks, "tolist"):
        ranks = ranks.tolist()
    if isinstance(ranks, bool):
        raise PlacementError("ranks must be integers, not a bool")
    if isinstance(ranks, int):
        if ranks < 1:
            raise PlacementError(f"{ranks} ranks: a placement needs at least one rank")
        if ranks >= 1 << 31:
            raise PlacementError(f"{ranks} ranks: a placement has fewer than {1 << 31}")
        return tuple(range(ranks)), (ranks,)
    if not isinstance(ranks, Iterable) or isinstance(ranks, str):
        raise PlacementError(f"ranks {ranks!r}: pass an int, a sequence of ints or a nested sequence")
    items = list(ranks)
    if not items:
        raise PlacementError("a placement needs at least one rank, got none")
    if all(_is_rank(item) for item in items):
        return tuple(int(item) for item in items), (len(items),)
    if any(_is_rank(item) for item in items):
        raise PlacementError(f"ranks {items}: mixes ranks and rows; every row of the grid needs the same length")
    rows = [_flatten(item) for item in items]
    if len({shape for _, shape in rows}) != 1:
        raise PlacementError(f"ranks {items}: every row of the grid needs the same length")
    return tuple(rank for flat, _ in rows for rank in flat), (len(rows), *rows[0][1])


def _is_rank(item: object) -> bool:
    return hasattr(item, "__index__") and not isinstance(item, bool)


def _nest(ranks: Sequence[int], shape: Sequence[int]) -> list[Any]:
    """`ranks` as nested lists of the given shape."""
    nested: list[Any] = list(ranks)
    for length in reversed(shape[1:]):
        nested = [nested[start : start + length] for start in range(0, len(nested), length)]
    return nested


def _axis_names(axes: str | Sequence[str] | None, count: int) -> tuple[str, ...]:
    if axes is None:
        return ("x",) if count == 1 else tuple(f"x{axis}" for axis in range(count))
    names = (axes,) if isinstance(axes, str) else tuple(axes)
    if len(names) != count:
        raise PlacementError(f"axes {names} name {len(names)} axes but the grid has {count}: give one name each")
    for name in names:
        if not isinstance(name, str) or not name.isidentifier():
            raise PlacementError(f"bad axis name {name!r}: use an identifier such as 'data'")
    if len(set(names)) != len(names):
        raise PlacementError(f"axes {names} repeat a name: give every axis its own")
    return names


def _check_ranks(ranks: tuple[int, ...]) -> None:
    seen: set[int] = set()
    for rank in ranks:
        if rank < 0:
            raise PlacementError(f"rank {rank} is out of range: ranks count from 0")
        if rank in seen:
            raise PlacementError(f"rank {rank} stands twice in {ranks}: a rank has one place in a grid")
        seen.add(rank)
