"""Meshes that show which of their ranks share a host, and the layouts on them that mean the same as a given one.

Where the ranks along a mesh axis fall into hosts of equally many ranks, the same way on every line of the mesh, the
axis is *refined* into two: the hosts and the ranks of a host, in either order. A layout has a *view* on a refined mesh
where the axis' SBP, written twice, gives every rank the block it has: always for B and P (reductions are associative),
and for S where the blocks of a host are neighbours and balanced.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from flowcore.comm.slices import Integers
from flowcore.placement.layout import Layout, Shape
from flowcore.placement.mesh import Placement


@lru_cache(maxsize=1024)
def refined(placement: Placement, hosts: tuple[int, ...]) -> tuple[tuple[Placement, int], ...]:
    """Every mesh that refines one axis of `placement`, with the number of that axis."""
    if not hosts:
        return ()
    grid = np.array(placement.ranks, np.int64).reshape(placement.shape)
    found = []
    for axis in range(placement.ndim):
        order = _by_host(np.array(hosts, np.int64)[np.moveaxis(grid, axis, 0).reshape(placement.shape[axis], -1)])
        if order is None:
            continue
        before, after = placement.shape[:axis], placement.shape[axis + 1 :]
        split = grid.take(order.reshape(-1), axis).reshape(*before, *order.shape, *after)
        names = [f"{placement.axes[axis]}_{part}" for part in ("hosts", "ranks")]
        for ranks, (first, second) in ((split, names), (split.swapaxes(axis, axis + 1), names[::-1])):
            axes = (*placement.axes[:axis], first, second, *placement.axes[axis + 1 :])
            if len(set(axes)) == len(axes):
                found.append((Placement(ranks, axes), axis))
    return tuple(found)


def _by_host(lines: Integers) -> Integers | None:
    """Positions along an axis as [host, rank of the host], from the hosts [position, line]; None where irregular."""
    groups: dict[int, list[int]] = {}
    for position, host in enumerate(lines[:, 0].tolist()):
        groups.setdefault(host, []).append(position)
    sizes = {len(group) for group in groups.values()}
    if len(groups) < 2 or len(sizes) > 1 or sizes == {1}:
        return None
    order = np.array(list(groups.values()), np.int64)
    there = lines[order]  # [host, rank of the host, line]
    alike = (there == there[:, :1]).all() and all(len(set(line.tolist())) == len(groups) for line in there[:, 0].T)
    return order if alike else None


def views(shape: Shape, layout: Layout, hosts: tuple[int, ...]) -> tuple[Layout, ...]:
    """The layouts on refined meshes that give every rank the same block with the same meaning."""
    found = []
    for placement, axis in refined(layout.placement, hosts):
        view = Layout(placement, layout.sbp[: axis + 1] + layout.sbp[axis:])
        if view.boxes(shape) == layout.boxes(shape):
            found.append(view)
    return tuple(found)
