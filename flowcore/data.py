"""Arrays in memory → batches as global tensors, the same whatever the number of ranks.

The order of the rows in an epoch is a permutation drawn from (seed, epoch) alone. Every rank computes all of it, which
is cheap, and takes from the arrays only the rows (and columns) that its block of the batch holds: nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np

from flowcore.dispatch import default_layout, unmasked
from flowcore.dtypes import as_dtype
from flowcore.errors import CheckpointError, DTypeError, FlowcoreError, PlacementError, ShapeError, TraceError
from flowcore.graph import Value
from flowcore.op import Array, Type
from flowcore.placement.layout import Layout
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import SbpLike
from flowcore.tensor import Tensor
from flowcore.world import current

PROBES = 64


class DataLoader:
    """Batches of the rows of one array (each a Tensor) or of several of equal length (each a tuple of Tensors).

    Every `for` is a new epoch, with a new order if `shuffle`; the first after `set_state` goes on where the state was
    taken. sbp: how every batch lies on `placement`, for example S(0), rows split; ranks that hold a replica read the
    same rows. The last batch is smaller where the rows do not divide, or left out with drop_last.
    """

    def __init__(
        self,
        arrays: Any,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        placement: Placement | None = None,
        sbp: SbpLike | None = None,
    ) -> None:
        self.is_single = not isinstance(arrays, tuple | list)
        self.arrays = _checked([arrays] if self.is_single else arrays)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ShapeError(f"batch_size={batch_size!r}: a batch has 1 or more rows; pass a positive int")
        if drop_last and batch_size > len(self.arrays[0]):
            raise ShapeError(
                f"batch_size={batch_size} of {len(self.arrays[0])} rows leaves no batch with drop_last: make it smaller"
            )
        self.batch_size, self.shuffle, self.seed, self.drop_last = batch_size, shuffle, seed, drop_last
        layout = default_layout(placement, sbp)
        if layout.is_partial:
            raise PlacementError(f"batches laid out as {layout}: rows are values, not terms; use S or B")
        self.layouts = [_fitting(layout, array) for array in self.arrays]
        self.digest = crc32(repr((batch_size, shuffle, seed, drop_last)).encode(), _fingerprint(self.arrays))
        self.epoch = 0
        self.position = 0
        self._begun = False

    @property
    def rows(self) -> int:
        """The number of rows of every array."""
        return len(self.arrays[0])

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return self.rows // self.batch_size if self.drop_last else -(-self.rows // self.batch_size)

    def order(self, epoch: int) -> Array:
        """The row numbers in the order of `epoch`."""
        if not self.shuffle:
            return np.arange(self.rows)
        return np.random.Generator(np.random.Philox(key=[self.seed % 2**64, epoch])).permutation(self.rows)

    def __iter__(self) -> Iterator[Any]:
        if self._begun:
            self.epoch, self.position = self.epoch + 1, 0
        self._begun = True
        epoch, order = self.epoch, self.order(self.epoch)
        for number in range(self.position, len(self)):
            self.epoch, self.position = epoch, number + 1
            yield self._batch(order[number * self.batch_size : (number + 1) * self.batch_size])

    def get_state(self) -> dict[str, int]:
        """Where it stands: the epoch, and how many of its batches were given."""
        return {"epoch": self.epoch, "position": self.position}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Go on from `state` at the next `for`."""
        epoch, position = state["epoch"], state["position"]
        if epoch < 0 or not 0 <= position <= len(self):
            raise CheckpointError(f"the state {dict(state)} does not fit an epoch of {len(self)} batches")
        self.epoch, self.position, self._begun = epoch, position, False

    def _batch(self, rows: Array) -> Any:
        world = current()
        if world.trace is not None:
            raise TraceError("a DataLoader runs outside the compiled function: pass its batches as arguments")
        placement = self.layouts[0].placement
        if placement.size > 1:
            # ranks that read other data, or at another place, differ from here on, and stop when they next meet
            digest = crc32(repr((self.epoch, self.position)).encode(), self.digest)
            what = f"batch {self.position} of epoch {self.epoch} of data {self.digest:#x}"
            world.record(tuple(sorted(placement.ranks)), digest, what)
        batch = [
            _tensor(array, rows, layout, world.rank) for array, layout in zip(self.arrays, self.layouts, strict=True)
        ]
        return batch[0] if self.is_single else tuple(batch)


def _tensor(array: Array, rows: Array, layout: Layout, rank: int) -> Tensor:
    """The rows `rows` of `array` as a global tensor, of which `rank` reads only its block."""
    shape = (len(rows), *array.shape[1:])
    value = Value(Type(shape, as_dtype(array.dtype)), layout.placement, layout.sbp)
    if rank not in layout.placement:
        return Tensor(value, None)
    (start, stop), *others = layout.box(shape, rank)
    block: tuple[Any, ...] = (rows[start:stop], *(slice(low, high) for low, high in others))
    return Tensor(value, np.ascontiguousarray(array[block], value.type.dtype))


def _checked(arrays: Sequence[Any]) -> list[Array]:
    """`arrays` as numpy arrays with an equal number of rows, not copied."""
    if not arrays:
        raise ShapeError("a DataLoader got no arrays: pass one, or a tuple of arrays of equal length")
    found: list[Array] = []
    for position, item in enumerate(arrays):
        if isinstance(item, Tensor):
            raise DTypeError(f"array {position} is a Tensor: pass the numpy array it was made of")
        array = np.asanyarray(item)
        unmasked(array)
        if array.ndim == 0:
            raise ShapeError(f"array {position} has no dimensions: its rows are the samples; give it at least one")
        as_dtype(array.dtype)
        found.append(array)
    lengths = [len(array) for array in found]
    if len(set(lengths)) > 1:
        raise ShapeError(
            f"the arrays have {', '.join(map(str, lengths))} rows: row i of each is one sample; cut them to fit"
        )
    if not lengths[0]:
        raise FlowcoreError("the arrays have no rows: there is nothing to load")
    return found


def _fitting(layout: Layout, array: Array) -> Layout:
    try:
        return layout.of(array.ndim)
    except PlacementError as error:
        raise PlacementError(f"an array of shape {array.shape}: {error}") from None


def _fingerprint(arrays: Sequence[Array]) -> int:
    """A checksum of the shapes, the dtypes and a few evenly spaced rows: data may be too large to read whole."""
    digest = 0
    for array in arrays:
        digest = crc32(repr((array.shape, str(array.dtype))).encode(), digest)
        probes = np.linspace(0, len(array) - 1, min(len(array), PROBES)).astype(int)
        digest = crc32(np.ascontiguousarray(array[probes]).tobytes(), digest)
    return digest
