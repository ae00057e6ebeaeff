"""What the ranks of a host do to memory that they share → a proof that nobody reads what may be written meanwhile.

A rank's *footprint* is the order of its meetings and of its reads and writes of shared memory. What rank r does before
it posts to a meeting comes before what rank s does after it has waited for the same meeting; nothing else orders what
different ranks do. So a value must be written before it is read, or read before it is overwritten, and no two ranks may
write the same bytes unordered. All ranks meet before a program runs, so one run is enough to look at.

A window may hold several values one after the other in the same bytes. A read is of one of them: of the other writes to
its bytes each must come before that of its value, which the rank that has the window settles for itself, or after the
read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

Group = tuple[int, ...]
Memory = tuple[int, int]
"""The rank that has it, and which of its: 0, its window; n, the common register number n - 1 of the program."""


@dataclass(frozen=True)
class Access:
    """Instruction `position` touches bytes start..stop-1 of `memory`; in a window a read counts from its value `key`.

    kind: "write"; "read" of what the run writes; "early": of what was there before. value: what a window holds then.
    """

    memory: Memory
    start: int
    stop: int
    position: int
    kind: str
    value: int | None = None
    key: int | None = None

    def overlaps(self, other: Access) -> bool:
        """Whether both touch a byte."""
        return self.memory == other.memory and self.start < other.stop and other.start < self.stop


@dataclass(frozen=True)
class Footprint:
    """Of one rank. meetings: (position, ranks, digest, whether it waits). groups: by key, the ranks that meet for it;
    that of common register n is -1 - n. keys: where what it shows begins, and what value it is.
    """

    meetings: tuple[tuple[int, Group, int, bool], ...]
    accesses: tuple[Access, ...]
    groups: Mapping[int, Group]
    keys: Mapping[int, tuple[int, int]]

    @cached_property
    def posts(self) -> dict[Group, list[int]]:
        """The positions at which it posts to every group."""
        return self._positions(False)

    @cached_property
    def waits(self) -> dict[Group, list[int]]:
        """The positions at which it waits for every group."""
        return self._positions(True)

    def _positions(self, waits: bool) -> dict[Group, list[int]]:
        found: dict[Group, list[int]] = {}
        for position, group, _, is_wait in self.meetings:
            if is_wait == waits:
                found.setdefault(group, []).append(position)
        return found

    def said(self, group: Group) -> list[tuple[int, bool]]:
        """What it says at the meetings of `group`."""
        return [(digest, is_wait) for _, ranks, digest, is_wait in self.meetings if ranks == group]


def races(footprints: Mapping[int, Footprint]) -> list[str]:
    """Every way in which ranks could read what is not there yet, or no more; empty: there is none."""
    found = [text for rank, footprint in footprints.items() for text in _mismatches(rank, footprint, footprints)]
    if found:
        return found
    every = [(rank, _resolved(access, footprints)) for rank, each in footprints.items() for access in each.accesses]
    every.sort(key=lambda pair: (pair[1].memory, pair[1].start))
    writes: dict[Memory, list[tuple[int, Access]]] = {}
    for rank, access in every:
        if access.kind == "write":
            writes.setdefault(access.memory, []).append((rank, access))
    for place, (rank, access) in enumerate(every):
        made = [pair for pair in writes.get(access.memory, ()) if pair[1].overlaps(access)]
        own = [pair for pair in made if pair[1].value == access.value]
        if access.kind == "read" and not _is_made(rank, access, own, footprints):
            found.append(f"rank {rank} reads {access} before that is written")
        elif access.kind == "read" and not _is_kept(rank, access, own, made, footprints):
            found.append(f"rank {rank} reads {access} when that may be written over")
        if access.kind == "early" and not all(_before((rank, access), write, footprints) for write in made):
            found.append(f"rank {rank} reads {access} when that may be overwritten")
        for other_rank, other in every[place + 1 :]:
            if other.memory != access.memory or other.start >= access.stop:
                break
            pair = (rank, access), (other_rank, other)
            is_conflict = other_rank != rank and access.kind == other.kind == "write" and access.overlaps(other)
            if is_conflict and not (_before(*pair, footprints) or _before(*pair[::-1], footprints)):
                found.append(f"ranks {rank} and {other_rank} write {other} at once")
    return found


def _resolved(access: Access, footprints: Mapping[int, Footprint]) -> Access:
    """An access by bytes of the window."""
    if access.key is None:
        return access
    shift, value = footprints[access.memory[0]].keys[access.key]
    return replace(access, start=access.start + shift, stop=access.stop + shift, value=value)


def _mismatches(rank: int, footprint: Footprint, footprints: Mapping[int, Footprint]) -> list[str]:
    """The groups whose meetings are not the same for a member, or where posts and waits do not take turns."""
    found = []
    for group in dict.fromkeys(group for _, group, _, _ in footprint.meetings):
        said = footprint.said(group)
        pairs = list(zip(said[::2], said[1::2], strict=False))
        if len(said) % 2 or any(post != (digest, False) for post, (digest, _) in pairs):
            found.append(f"rank {rank} does not wait for what it posts to ranks {group}")
        found.extend(
            f"ranks {rank} and {other} meet differently as part of ranks {group}"
            for other in group
            if other not in footprints or footprints[other].said(group) != said
        )
    return found


def _is_made(
    rank: int, read: Access, writes: Sequence[tuple[int, Access]], footprints: Mapping[int, Footprint]
) -> bool:
    """Whether all bytes read are written before."""
    written = sum(min(write.stop, read.stop) - max(write.start, read.start) for _, write in writes)
    is_before = all(_before(write, (rank, read), footprints) for write in writes)
    return is_before and written == read.stop - read.start


def _is_kept(
    rank: int,
    read: Access,
    own: Sequence[tuple[int, Access]],
    writes: Sequence[tuple[int, Access]],
    footprints: Mapping[int, Footprint],
) -> bool:
    """Whether what writes other values than that read, which `own` write, comes before these or after the read."""
    others = [pair for pair in writes if pair[1].value != read.value]
    return all(
        all(_before(other, write, footprints) for write in own) or _before((rank, read), other, footprints)
        for other in others
    )


def _before(first: tuple[int, Access], then: tuple[int, Access], footprints: Mapping[int, Footprint]) -> bool:
    """Whether an access of one rank surely comes before one of another, or in the same instruction of the same."""
    if first[0] == then[0]:
        return first[1].position <= then[1].position
    here, there = footprints[first[0]], footprints[then[0]]
    for group, posts in here.posts.items():
        if then[0] in group:
            meeting = bisect_right(posts, first[1].position)
            if meeting < len(posts) and there.waits[group][meeting] < then[1].position:
                return True
    return False
