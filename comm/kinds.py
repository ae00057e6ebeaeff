"""The name of a change of layout, for people: what changes along each mesh axis, or between placements."""

from __future__ import annotations

from flowcore.placement.layout import Layout, Shape
from flowcore.placement.sbp import SBP, Broadcast, Partial, Split, Window


def kind_of(shape: Shape, source: Layout, target: Layout, moved: int) -> str:
    """none, slice, halo, all_gather, all_to_all, reduce_scatter, all_reduce, broadcast, scatter, gather, send or
    exchange.

    `none`: every rank keeps its block as it is. `slice`: no byte moves. `halo`: slices grow by what their neighbours
    hold. `exchange`: several of the others at once.
    """
    same_mesh = source.placement.ranks == target.placement.ranks and source.placement.shape == target.placement.shape
    if not moved:
        return "none" if _unchanged(shape, source, target, same_mesh) else "slice"
    if same_mesh:
        changes = {_change(a, b) for a, b in zip(source.sbp, target.sbp, strict=True)} - {"none", "slice"}
        return changes.pop() if len(changes) == 1 else "exchange"
    givers, takers = source.placement.size, target.placement.size
    if givers == 1:
        return "send" if takers == 1 else "broadcast" if target.is_broadcast else "scatter"
    return "gather" if takers == 1 else "exchange"


def _unchanged(shape: Shape, source: Layout, target: Layout, same_mesh: bool) -> bool:
    """Whether every rank of both placements holds the same box with the same meaning."""
    if same_mesh and source.sbp == target.sbp:
        return True
    if source.is_partial or target.is_partial:
        return False
    return set(source.placement.ranks) == set(target.placement.ranks) and source.boxes(shape) == target.boxes(shape)


def _change(a: SBP, b: SBP) -> str:
    """What happens along one mesh axis."""
    match a, b:
        case _ if a == b:
            return "none"
        case Split(), Broadcast():
            return "all_gather"
        case Split(i), Window(axis=j) if i == j:
            return "halo"
        case Split(), Split() | Window():
            return "all_to_all"
        case Partial(), Broadcast():
            return "all_reduce"
        case Partial(), _:
            return "reduce_scatter"
        case _:
            return "slice"
