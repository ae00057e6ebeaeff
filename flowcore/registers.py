"""Common registers: tensors that the ranks of a host keep once, and how they know that one may be written over.

A tensor's block on each of these ranks is then an array over the same memory, or over its part of it. A program
overwrites it only where no rank holds the old value otherwise (`ownership`): each says so before the ranks meet at the
beginning of a run, and reads after it what the others said. Where somebody holds it, the tensor gets a new register,
and the old one stays as long as anybody sees it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

import numpy as np

from flowcore.comm.transport import Opens
from flowcore.errors import CommError
from flowcore.memory import ALIGNMENT
from flowcore.op import Array, Type
from flowcore.ownership import ONCE, references
from flowcore.passes.common import Common
from flowcore.world import World

KEEP, FILL, RENEW = range(3)
"""The tensor lies in its register and may be overwritten; it lies elsewhere; somebody holds what the register holds."""


def _nothing() -> None:
    """What a reference gives whose array is gone."""


class Kept:
    """The register of one tensor, as one of `ranks` sees it; `version` counts its places."""

    def __init__(self, ranks: tuple[int, ...], type: Type) -> None:
        self.ranks, self.type, self.version = ranks, type, 0
        self.window: Any = None
        self.given: Callable[[], Array | None] = _nothing

    def renew(self, transport: Opens) -> bool:
        """Lie somewhere else; False on all of `ranks`, which call it, where there is no memory."""
        size = self.type.nbytes + ALIGNMENT if transport.rank == self.ranks[0] else 0  # type: ignore[attr-defined]
        windows = transport.windows(self.ranks, size)
        if windows is not None:
            self.window, self.given = windows[0], _nothing
            self.version += 1
        return windows is not None

    def array(self, part: Common | None = None) -> Array:
        """The register, or the part of it that the rank replaces; no view of another array."""
        shift = -ctypes.addressof(self.window) % ALIGNMENT
        shape = self.type.shape if part is None else part.part.shape
        first = 0 if part is None else part.start * self.type.dtype.itemsize
        return np.ndarray(shape, self.type.dtype, self.window, shift + first)

    def give(self, common: Common) -> Array:
        """The rank's block of the tensor, which nobody may write to."""
        array = self.array(common if common.is_part else None)
        array.setflags(write=False)
        self.given = ref(array)
        return array

    def state(self, transport: Opens, blocks: Sequence[Array | None], place: int) -> int:
        """What this rank says of it, where `blocks[place]` is the block of the tensor."""
        is_alone = transport.is_alone(self.window)
        if self.given() is None:
            return FILL if is_alone else RENEW
        is_here = self.given() is blocks[place] and references(blocks, place) == ONCE
        return KEEP if is_here and is_alone else RENEW


class Registers:
    """The common registers of a program, as `rank`, one of `ranks`, sees them."""

    def __init__(self, rank: int, ranks: tuple[int, ...], commons: Sequence[Common], count: int) -> None:
        self.rank, self.ranks, self.commons, self.count = rank, ranks, tuple(commons), count
        self.kept: dict[int, Kept] = {}
        self.flags: list[list[Array]] = []
        self.turn = 0
        self.seen: list[int] = []

    def bind(self, world: World, tensors: Sequence[int]) -> bool:
        """Find or make them; see `Sharing.bind`."""
        transport = world.transport
        assert isinstance(transport, Opens)
        if not self.count:
            return True
        windows = transport.windows(self.ranks, 2 * self.count)
        if windows is None:
            return False
        self.flags = [
            [np.ndarray((self.count,), np.uint8, window, turn * self.count) for window in windows] for turn in (0, 1)
        ]
        for flags in self.flags:  # whatever used this memory before has left its bytes where no register is
            flags[self.ranks.index(self.rank)][:] = KEEP
        for common in self.commons:
            kept = world.kept.get(tensors[common.old])
            if kept is None or (kept.ranks, kept.type) != (common.ranks, common.type):
                kept = world.kept[tensors[common.old]] = Kept(common.ranks, common.type)
            self.kept[common.index] = kept
        told = transport.gather_objects(self.ranks, {n for n, kept in self.kept.items() if kept.window is None})
        missing = set[int]().union(*told)
        made = [kept.renew(transport) for index, kept in self.kept.items() if index in missing]
        return all(transport.gather_objects(self.ranks, all(made)))

    def ask(self, transport: Any, blocks: Sequence[Array | None]) -> None:
        """Say what this rank holds, before the ranks meet."""
        mine = self.flags[self.turn][self.ranks.index(self.rank)]
        for common in self.commons:
            mine[common.index] = self.kept[common.index].state(transport, blocks, common.old)

    def settle(self, transport: Any, blocks: Sequence[Array | None]) -> bool:
        """Let every tensor lie in its register, and that be free to be written over; whether some lie elsewhere now."""
        told = self.flags[self.turn]
        self.turn = 1 - self.turn
        if any(flags.tobytes().strip(b"\0") for flags in told):
            worst = np.maximum.reduce(told)
            for common in self.commons:
                state = worst[common.index]
                if state == RENEW and not self.kept[common.index].renew(transport):
                    raise CommError(
                        f"no shared memory for {common.type}, of which a rank holds the value before: "
                        "let go of what detach, to_local or state_dict gave"
                    )
                if state != KEEP:
                    given = blocks[common.old]
                    assert given is not None
                    first, size = common.start, common.part.size
                    own = given if common.is_part else given.reshape(-1)[first : first + size]
                    self.part(common)[...] = own.reshape(common.part.shape)
            transport.barrier(self.ranks)
        seen = [kept.version for kept in self.kept.values()]
        is_elsewhere = seen != self.seen
        self.seen = seen
        return is_elsewhere

    def give(self, outputs: list[Array | None]) -> list[Array | None]:
        """`outputs` with the tensors' new blocks."""
        for common in self.commons:
            outputs[common.new] = self.kept[common.index].give(common)
        return outputs

    def whole(self, index: int) -> Array:
        """A register."""
        return self.kept[index].array()

    def part(self, common: Common) -> Array:
        """What this rank writes of a register."""
        return self.kept[common.index].array(common)
