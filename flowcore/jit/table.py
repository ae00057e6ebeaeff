"""Calls of compiled kernels from Python: a table of them, which compiled code walks without the interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CFUNCTYPE, c_int64, c_size_t, c_void_p

import numpy as np

from flowcore.jit.launch import Kernel
from flowcore.jit.store import entry, runner
from flowcore.op import Array

FUNCTION = CFUNCTYPE(c_int64, c_void_p)
HEADER = object.__basicsize__
"""Bytes before the address of its elements in the C structure of an array, the same in all versions of numpy."""


def _stored_address(array: Array) -> int:
    return c_size_t.from_address(id(array) + HEADER).value


def _told_address(array: Array) -> int:
    return array.ctypes.data


PROBES = (np.empty(3), np.empty((2, 3), np.int32)[1:], np.empty(()))
address_of = _stored_address if all(_stored_address(x) == _told_address(x) for x in PROBES) else _told_address
"""Where the elements of an array begin; asking numpy takes ten times as long."""


class Table:
    """Rows of calls, as `jit.entry.run` reads them.

    rows: per call the kernel, its numbers, and per array its length; addresses are set by `point` before the first run.
    """

    def __init__(self, rows: Sequence[tuple[Kernel, Sequence[int], Sequence[int]]]) -> None:
        words = [len(rows)]
        self.places: list[list[int]] = []
        """Per row and array the number of the word that holds its address."""
        for kernel, numbers, lengths in rows:
            first = len(words) + 2 + len(numbers)
            self.places.append([first + 2 * place for place in range(len(lengths))])
            words += [entry(kernel).address, len(numbers) + 2 * len(lengths), *numbers]
            words += [word for length in lengths for word in (0, length)]
        self.words = np.array(words, np.int64)
        self._run, self._address = FUNCTION(runner().address), address_of(self.words)

    def point(self, place: int, address: int) -> None:
        """The array whose address is word number `place` lies at `address`."""
        self.words[place] = address

    def run(self) -> int:
        """Make the calls in order; 0, or the number, from 1 on, of the one that found its arguments bad."""
        return self._run(self._address)  # type: ignore[no-any-return]  # ctypes' functions say nothing of their results


def call(kernel: Kernel, numbers: Sequence[int], arrays: Sequence[Array]) -> int:
    """One call on contiguous arrays; what the kernel returns."""
    table = Table([(kernel, numbers, [array.size for array in arrays])])
    for place, array in zip(table.places[0], arrays, strict=True):
        table.point(place, address_of(array))
    return table.run()
