"""How long what a rank shows must stay, and what ranks may not replace in common: from what all ranks of a host do.

A rank has read a value when it posts to the next meeting, and those who have waited for that meeting know. Which
meeting it is its digest says, which is the same on all ranks. So the `Footprint` of a rank may stand for that of
another whose blocks have the same shapes: it does the same between the same meetings, though with other peers.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from flowcore.races import Access, Footprint

Life = tuple[int, int]
"""The instruction that writes a value, and the last before which it must stay."""


def lives(
    rank: int, keys: Mapping[int, int], used: Mapping[int, Life], gathered: Container[int], count: int,
    footprints: Mapping[int, Footprint],
) -> dict[int, Life]:  # fmt: skip
    """Of each value in the window of `rank`, known by `keys`, which the rank itself needs when `used` says.

    gathered: those of which peers write pieces. count: of the instructions of the rank.
    """
    own, found = footprints[rank], dict(used)
    touched = {other: _touched(each.accesses) for other, each in footprints.items()}
    touched[rank] = _touched([access for access in own.accesses if access.memory[0] == rank])  # it is no other's stead
    for key, number in keys.items():
        first, last = found[number]
        for other in own.groups[key]:
            written, read = touched[other].get((key, "write")), touched[other].get((key, "read"))
            if other == rank:
                last = max(last, read[1] if read else last)
                continue
            if written and number in gathered:
                digest = _waited(footprints[other], key, written[0])
                first = min(first, max(_waits(own, key, digest), default=-1) + 1)
            if read:
                digest = _posted(footprints[other], key, read[1])
                last = max(last, min(_waits(own, key, digest), default=count))
        found[number] = first, last
    return found


def unsafe(footprints: Mapping[int, Footprint | None]) -> frozenset[int]:
    """The common registers of which a rank reads what another may have replaced: no meeting stands between.

    None: of a rank that sees no memory of others.
    """
    reads: dict[int, set[int | None]] = {}
    writes: list[tuple[int, int, Footprint]] = []
    for each in footprints.values():
        if each is None:
            continue
        touched: dict[int, list[Access]] = {}
        for access in each.accesses:
            if access.memory[1]:
                touched.setdefault(access.memory[1] - 1, []).append(access)
        for index, those in touched.items():
            made = [access for access in those if access.kind == "write"]
            others = [a.position for a in those if a.kind == "early" and not any(_contains(w, a) for w in made)]
            if made:
                writes.append((index, min(access.position for access in made), each))
            if others:
                reads.setdefault(index, set()).add(_posted(each, -1 - index, max(others)))
    return frozenset(
        index for index, position, each in writes for digest in reads.get(index, ())
        if not any(wait < position for wait in _waits(each, -1 - index, digest))
    )  # fmt: skip


def _contains(whole: Access, part: Access) -> bool:
    return whole.start <= part.start and part.stop <= whole.stop


def _touched(accesses: Sequence[Access]) -> dict[tuple[int, str], Life]:
    """The first and the last instruction that writes, and that reads, what is known by each key."""
    found: dict[tuple[int, str], Life] = {}
    for access in accesses:
        if access.key is not None:
            first, last = found.get((access.key, access.kind), (access.position, access.position))
            found[access.key, access.kind] = min(first, access.position), max(last, access.position)
    return found


def _posted(footprint: Footprint, key: int, position: int) -> int | None:
    """The first meeting for what `key` is known by to which a rank posts behind an instruction; None: there is none."""
    return next((digest for at, digest in _met(footprint, key, False) if at > position), None)


def _waited(footprint: Footprint, key: int, position: int) -> int | None:
    """The last such meeting that it has waited for before an instruction."""
    return next((digest for at, digest in reversed(_met(footprint, key, True)) if at < position), None)


def _waits(footprint: Footprint, key: int, digest: int | None) -> list[int]:
    """Where it waits for such a meeting."""
    return [at for at, met in _met(footprint, key, True) if met == digest]


def _met(footprint: Footprint, key: int, waits: bool) -> list[tuple[int, int]]:
    """Where the rank posts to, or waits for, meetings of all that meet for what `key` is known by; and which."""
    ranks = {*footprint.groups[key]}
    return [(at, met) for at, group, met, is_wait in footprint.meetings if is_wait == waits and ranks <= {*group}]


__all__ = ["Life", "lives", "unsafe"]
