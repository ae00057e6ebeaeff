"""Many operators as one pass over rows and columns: what a fused kernel computes, and how numpy computes it in tiles.

The values of a fused kernel are seen as matrices of R rows and C columns. Each has a *space*, the letters along which
it varies: "rc" one element per row and column, "r" one per row, "c" one per column, "" one in all. An input may also
have space "p" or "pc": its row for row i of the loop is (i // repeat) % period. Reductions along a row give values of
space "r", which later steps may read; sums down the columns ("c") and over everything ("") are only results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, ClassVar

import numpy as np

from flowcore.jit.launch import Kernel, Launch
from flowcore.jit.source import Body, Step, kernel
from flowcore.jit.store import is_available
from flowcore.jit.table import call
from flowcore.op import Array, Op, Type
from flowcore.placement.layout import Shape

TILE = 2**15
"""Elements of a tile, for numpy: a few of them fit the second-level cache."""


@dataclass(frozen=True)
class Fused(Op):
    """The results of `body` over R = `rows` and C = `columns`.

    repeats: per input (repeat, period) of its rows. shapes: those of the results. into: per result the input whose
    memory it takes, or -1 for new memory.
    """

    body: Body
    rows: int
    columns: int
    repeats: tuple[tuple[int, int], ...]
    shapes: tuple[Shape, ...]
    into: tuple[int, ...]

    name: ClassVar[str] = "fused"
    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        dtypes = (np.dtype(self.body.values[result].dtype) for result in self.body.results)
        return tuple(Type(shape, dtype) for shape, dtype in zip(self.shapes, dtypes, strict=True))

    def text(self) -> str:
        steps = " ".join(step.name for step in self.body.steps)
        into = "".join(f" %{source}<-{result}" for result, source in enumerate(self.into) if source >= 0)
        return f"fused{{{self.rows}x{self.columns}: {steps}{into}}}"

    def flops(self, *types: Type) -> int:
        return len(self.body.steps) * self.rows * self.columns

    @cached_property
    def compiled(self) -> Kernel | None:
        """The loop to compile; None where no compiler is installed."""
        return kernel(self.body) if is_available() else None

    @cached_property
    def constants(self) -> tuple[int, ...]:
        """What the loop takes before arrays: R, C and the repeats of periodic inputs."""
        periodic = zip(self.repeats, self.body.inputs, strict=True)
        return (self.rows, self.columns, *(n for pair, item in periodic if "p" in item.space for n in pair))

    def kernel(self, *arrays: Any, **_: Any) -> Any:
        return self.write((None,) * len(self.shapes), *arrays)

    def write(self, results: Sequence[Array | None], *arrays: Any) -> Any:
        arrays = tuple(owned(array) for array in arrays)
        made = tuple(
            arrays[source] if source >= 0 else np.empty(*given) if memory is None else memory
            for memory, given, source in zip(results, self._results, self.into, strict=True)
        )
        self.run(arrays, made)
        return made if len(made) > 1 else made[0]

    def launch(self, types: Sequence[Type]) -> Launch | None:
        if self.compiled is None:
            return None
        return Launch(self.compiled, self.constants, self.into, (self.columns,) * len(self.body.scratch))

    def over(self, source: int, result: int) -> Op | None:
        number = self.body.results[result]
        given, made = self.body.inputs[source], self.body.values[number]
        if given != made or made.space != "rc" or source in self.into or self.into[result] >= 0:
            return None
        into = tuple(source if place == result else other for place, other in enumerate(self.into))
        body = replace(self.body, into=into)
        # of a row that is written nothing is read in a later loop
        return replace(self, body=body, into=into) if body.read_until[source] <= body.stages[number] else None

    def new_results(self, numbers: Sequence[int]) -> Sequence[int]:
        return [number for number, source in zip(numbers, self.into, strict=True) if source < 0]

    @cached_property
    def _results(self) -> tuple[tuple[Shape, str], ...]:
        """Shape and dtype of every result."""
        dtypes = (self.body.values[result].dtype for result in self.body.results)
        return tuple(zip(self.shapes, dtypes, strict=True))

    def run(self, arrays: Sequence[Array], results: Sequence[Array]) -> None:
        """Compute into `results`, which are contiguous."""
        if self.compiled is None:
            _Tiles(self, arrays, results).run()
            return
        new = [result for result, source in zip(results, self.into, strict=True) if source < 0]
        scratch = [np.empty(self.columns, np.dtype(dtype)) for dtype in self.body.scratch]
        call(self.compiled, self.constants, [*arrays, *new, *scratch])


def owned(array: Array) -> Array:
    """The array as the loops take it, contiguous and writeable: a copy of one that repeats an element or skips some."""
    flags = array.flags
    return array if flags.c_contiguous and flags.writeable else array.copy()


class _Tiles:
    """The same with numpy: every step on a tile of rows and columns whose values fit the cache."""

    def __init__(self, op: Fused, arrays: Sequence[Array], results: Sequence[Array]) -> None:
        self.op, self.body = op, op.body
        spaces = [item.space for item in self.body.inputs]
        self.inputs = [
            array.reshape(period if "p" in space else op.rows if "r" in space else 1, op.columns if "c" in space else 1)
            for array, space, (_, period) in zip(arrays, spaces, op.repeats, strict=True)
        ]
        shapes = [self.body.values[result].shape(op.rows, op.columns) for result in self.body.results]
        self.results = [result.reshape(shape) for result, shape in zip(results, shapes, strict=True)]

    def run(self) -> None:
        """Compute all results."""
        for result, number in zip(self.results, self.body.results, strict=True):
            if self.body.is_total(number):
                result[...] = 0
        has_rows = any(step.kind == "row" for step in self.body.steps)
        width = max(self.op.columns, 1) if has_rows else min(max(self.op.columns, 1), TILE)
        height = max(TILE // width, 1)
        for top in range(0, self.op.rows, height):
            for left in range(0, max(self.op.columns, has_rows), width):
                self._tile(slice(top, min(top + height, self.op.rows)), slice(left, min(left + width, self.op.columns)))

    def _tile(self, rows: slice, columns: slice) -> None:
        values: list[Any] = []
        for array, item, (repeat, period) in zip(self.inputs, self.body.inputs, self.op.repeats, strict=True):
            part = array[:, columns] if "c" in item.space else array
            if "p" in item.space:
                part = part[np.arange(rows.start, rows.stop) // repeat % period]
            values.append(part[rows] if "r" in item.space else part)
        for step in self.body.steps:
            shape = (rows.stop - rows.start, columns.stop - columns.start)
            made = _applied(step, [values[number] for number in step.inputs], shape)
            values.append(made[:, columns] if step.kind == "index" else made)
        if max(self.op.into) >= 0:
            # a result may be a view of an operand over which another is written
            values = [np.array(value) if number in self.body.results else value for number, value in enumerate(values)]
        for result, number in zip(self.results, self.body.results, strict=True):
            space = self.body.values[number].space
            place = result[rows if "r" in space else slice(None), columns if "c" in space else slice(None)]
            if self.body.is_total(number):
                place += values[number]
            else:
                place[...] = values[number]


def _applied(step: Step, values: Sequence[Any], shape: tuple[int, int]) -> Any:
    match step.kind:
        case "map":
            return step.op.kernel(*values)
        case "same":
            return values[0]
        case "index":
            return step.op.kernel()[None, :]
        case "literal":
            return np.array(step.op.value, step.dtype)  # type: ignore[attr-defined]  # a literal's operator is a full
    axes: dict[str, Any] = {"row": 1, "column": 0, "total": (0, 1)}
    axis = axes[step.kind]
    # the operand may be constant along what is reduced
    operand = np.broadcast_to(values[0], shape if "c" in step.reads else (shape[0], 1))
    if step.name == "sum":
        return np.sum(operand, axis=axis, keepdims=True, dtype=step.dtype)
    return np.maximum.reduce(operand, axis=axis, keepdims=True, initial=-np.inf)


def matrix(shape: Shape, split: int) -> tuple[int, int]:
    """Rows and columns where the dimensions before `split` are rows."""
    return prod(shape[:split]), prod(shape[split:])
