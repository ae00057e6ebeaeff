"""Where the values lie that a program shows to the other ranks of its host, and where theirs are.

Every rank has a *window*: memory that all of them see. Which value lies where in it each rank settles by itself and
tells the others once, when the program is made. A program's ranks meet before it runs, so nobody writes into a window
that a peer still reads from the run before; the windows of the same ranks are therefore those of all their programs,
and go with the last of them: each rank lets go by itself, and the memory is used again when all have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flowcore.comm.transport import Opens
from flowcore.meeting_op import View
from flowcore.memory import ALIGNMENT
from flowcore.op import Array, Type
from flowcore.passes.common import Common
from flowcore.passes.show import Shown
from flowcore.races import Footprint, races
from flowcore.registers import Registers
from flowcore.world import Windows, World


@dataclass
class Sharing:
    """The part of `rank`, one of `ranks`, in what they share while a program runs.

    parts: the inputs that are what the rank replaces of common registers.
    """

    rank: int
    ranks: tuple[int, ...]
    shown: Shown
    parts: Mapping[int, Common]
    common: Registers
    _windows: Mapping[int, Array] = field(default_factory=dict)
    _told: Mapping[int, Mapping[int, tuple[int, int]]] = field(default_factory=dict)

    def settle(self, footprints: Mapping[int, Footprint]) -> None:
        """Give what is shown its places; footprints: of all ranks of the host, or others in their stead (`lives`)."""
        self.shown = self.shown.settled(footprints)

    def bind(self, world: World, tensors: Sequence[int]) -> bool:
        """Learn where everything is; False on all ranks where memory is short, or a race cannot be ruled out.

        All of `ranks` call it, once settled. tensors: the same number for every input of any program that is the same
        tensor.
        """
        transport = world.transport
        assert isinstance(transport, Opens)
        windows = world.windows.get(self.ranks)
        number = -1 if windows is None else windows.number
        gathered = transport.gather_objects(self.ranks, (self.shown.size, self.shown.footprint, number))
        told = dict(zip(self.ranks, gathered, strict=True))
        if races({rank: footprint for rank, (_, footprint, _) in told.items()}):
            if self.shown.apart is None:
                return False
            self.shown = self.shown.apart
            return self.bind(world, tensors)
        if any(held != number for _, _, held in told.values()):
            windows = None  # on some rank no program uses them any more
        if windows is None or any(size > windows[rank].size for rank, (size, _, _) in told.items()):
            size, before = self.shown.size, 0 if windows is None else windows[world.rank].size
            if before:  # programs made before keep theirs: windows that grow little by little would be many
                size = max(size, before + before // 2 if size > before else before)
            made = transport.windows(self.ranks, size + ALIGNMENT)
            if made is None:
                return False
            windows = Windows({rank: _aligned(window) for rank, window in zip(self.ranks, made, strict=True)})
            windows.number = world.made[self.ranks]
            world.made[self.ranks] += 1
            world.windows[self.ranks] = windows
        self._windows, self._told = windows, {rank: footprint.keys for rank, (_, footprint, _) in told.items()}
        return self.common.bind(world, tensors)

    @property
    def registers(self) -> Mapping[int, Array]:
        """The memory of the registers that other ranks see."""
        window, places = self._windows[self.rank], self.shown.places
        own = {number: self.common.part(common) for number, common in self.shown.own.items()}
        away = {
            number: _array(self._windows[at.rank], self._told[at.rank][at.key][0] + at.start, at.type)
            for number, at in self.shown.away.items()
        }
        return {**{number: _array(window, place, type) for number, (place, type) in places.items()}, **own, **away}

    @property
    def inputs(self) -> Mapping[int, Array]:
        """What lies in common registers when the program begins."""
        parts = {number: self.common.part(common) for number, common in self.parts.items()}
        return {**{common.input: self.common.whole(common.index) for common in self.parts.values()}, **parts}

    def view(self, view: View) -> Array:
        """What a peer shows, or all do."""
        if view.key < 0:
            return self.common.whole(-1 - view.key)
        found: Array = _array(self._windows[view.rank], self._told[view.rank][view.key][0], view.source)[view.index]
        return found


def _aligned(window: Any) -> Array:
    memory = np.ndarray((len(window),), np.uint8, window)
    return memory[-memory.ctypes.data % ALIGNMENT :][: memory.size - ALIGNMENT]


def _array(memory: Array, place: int, type: Type) -> Array:
    found: Array = memory[place : place + type.nbytes].view(type.dtype).reshape(type.shape)
    return found
