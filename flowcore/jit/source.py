"""What a fused kernel computes → the source of one loop.

Over each row runs one loop per *stage*: a value that depends on a reduction along the row stands in the stage after it.
What one stage computes and a later one reads is kept in a scratch row, unless it can be loaded, or with little work
computed from inputs, again. Arithmetic is
that of the operators, in their order and dtype, so results differ from numpy's only where sums are taken in another
order and in the last bits of transcendental functions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from flowcore.jit.launch import Kernel
from flowcore.op import Op

NAMES = {
    "float32": "f4", "float64": "f8", "int32": "i4", "int64": "i8", "bool": "b1", "float16": "f2", "bfloat16": "b2",
}  # fmt: skip
"""The dtypes that loops are generated for."""
BITS = {"f2": np.uint16, "b2": np.uint16}
"""What a loop sees narrow numbers as: their bits, which it casts to float32 and back."""
CALL = re.compile(r"[a-z]\w+\(|/")
"""A function or a division in a scalar expression."""
HEAVY = 4
FUNCTION = re.compile(r"\b([a-z]\w*)\(")
FUNCTIONS = re.compile(r"^def ([a-z]\w*_[a-z]\d)\(", re.MULTILINE)
INLINED = 30
"""The most arguments of a call that numba writes into its caller."""
LETTER = re.compile(r"\b[abc]\b")


@dataclass(frozen=True)
class Value:
    """A dtype and a space; see `flowcore.fused`."""

    dtype: str
    space: str

    def shape(self, rows: int, columns: int) -> tuple[int, int]:
        """Its shape as a matrix, of R rows where it varies along rows."""
        return rows if "r" in self.space else 1, columns if "c" in self.space else 1


@dataclass(frozen=True)
class Step:
    """One operator. kind: "map" (elementwise), "same" (a copy seen in another space), "literal", "index" (the numbers
    of columns), "row", "column" or "total" (a reduction); reads: the space of what a reduction reads."""

    kind: str
    op: Op
    inputs: tuple[int, ...]
    dtype: str
    space: str
    reads: str = ""

    @property
    def name(self) -> str:
        """The operator's name."""
        return self.op.name


@dataclass(frozen=True)
class Body:
    """A fused kernel: its inputs and, numbered behind them, its steps; the numbers of its results.

    into: per result the input into whose memory it is written, or -1.
    """

    inputs: tuple[Value, ...]
    steps: tuple[Step, ...]
    results: tuple[int, ...]
    into: tuple[int, ...]

    @cached_property
    def values(self) -> tuple[Value, ...]:
        """Dtype and space of every value."""
        return (*self.inputs, *(Value(step.dtype, step.space) for step in self.steps))

    def is_total(self, number: int) -> bool:
        """Whether value `number` is a sum down the columns or over everything."""
        step = number - len(self.inputs)
        return step >= 0 and self.steps[step].kind in ("column", "total")

    @cached_property
    def stages(self) -> tuple[int, ...]:
        """The stage of every value."""
        found = [0] * len(self.inputs)
        for step in self.steps:
            found.append(max((found[number] for number in step.inputs), default=0) + (step.kind == "row"))
        return tuple(found)

    @cached_property
    def work(self) -> tuple[int, ...]:
        """The operations that computing every value again takes, from what can be loaded; `HEAVY` or more: too many."""
        found = [0] * len(self.inputs)
        for step in self.steps:
            is_plain = step.kind in ("same", "index") or (step.kind == "map" and not CALL.search(step.op.scalar))
            rest = (found[number] for number in step.inputs if "c" in self.values[number].space)
            found.append(sum(rest) + 1 if is_plain and step.space in ("rc", "c") else HEAVY)
        return tuple(found)

    @cached_property
    def kept(self) -> tuple[int, ...]:
        """The values that a stage computes for a later one, and that are in no array it can load from."""
        loaded = {result for result, source in zip(self.results, self.into, strict=True) if source < 0}
        found = set()
        for position, step in enumerate(self.steps, len(self.inputs)):
            # what reduces a row reads it in the stage before its own
            stage = self.stages[position] - (step.kind == "row")
            for number in step.inputs:
                is_late = self.stages[number] < stage and self.values[number].space == "rc"
                if is_late and self.work[number] >= HEAVY and number not in loaded:
                    found.add(number)
        return tuple(sorted(found))

    @cached_property
    def read_until(self) -> tuple[int, ...]:
        """Per input the last stage whose loop loads it."""
        found = [0] * len(self.inputs)
        loaded = {*self.kept, *(result for result, source in zip(self.results, self.into, strict=True) if source < 0)}

        def load(numbers: Sequence[int], known: set[int], stage: int) -> None:
            for number in numbers:
                if number in known or "c" not in self.values[number].space:
                    continue
                known.add(number)
                if number < len(self.inputs):
                    found[number] = max(found[number], stage)
                elif number not in loaded:
                    load(self.steps[number - len(self.inputs)].inputs, known, stage)

        for stage in range(max(self.stages, default=0) + 1):
            known = set[int]()
            for position, step in enumerate(self.steps, len(self.inputs)):
                if self.stages[position] - (step.kind == "row") == stage and (step.space == "rc" or "c" in step.reads):
                    load(step.inputs, known, stage)
                    known.update([position] if step.space == "rc" else [])
        return tuple(found)

    @cached_property
    def scratch(self) -> tuple[str, ...]:
        """The dtypes of the scratch rows."""
        return tuple(self.values[number].dtype for number in self.kept)


@cache
def functions() -> frozenset[str]:
    """The functions of one dtype that generated code may call, as `exp_f4`."""
    files = (Path(__file__).parent / name for name in ("lanes.py", "elementary.py"))
    return frozenset(name for file in files for name in FUNCTIONS.findall(file.read_text()))


def is_written(scalar: str, dtype: str) -> bool:
    """Whether all functions that a scalar expression calls are written for `dtype`."""
    return all(f"{name}_{NAMES[dtype]}" in functions() for name in FUNCTION.findall(scalar))


def kernel(body: Body) -> Kernel:
    """`loop(R, C, repeats…, inputs…, results…, scratch…)` over flat arrays."""
    periodic = sum("p" in item.space for item in body.inputs)
    new = [result for result, source in zip(body.results, body.into, strict=True) if source < 0]
    dtypes = (*(item.dtype for item in body.inputs), *(body.values[result].dtype for result in new), *body.scratch)
    return Kernel(_Writer(body).text(), 2 + 2 * periodic, tuple(NAMES[dtype] for dtype in dtypes))


class _Writer:
    """Writes one body; `v3` is value 3, `x3` input 3, `y0` the first result that has memory of its own."""

    def __init__(self, body: Body) -> None:
        self.body, self.values = body, body.values
        self.steps = list(enumerate(body.steps, len(body.inputs)))
        self.lines: list[str] = []
        new = [result for result, source in zip(body.results, body.into, strict=True) if source < 0]
        self.memory = {result: f"y{place}" for place, result in enumerate(new)}
        self.arrays = [*(f"x{number}" for number in range(len(body.inputs))), *self.memory.values()]
        self.scratch = {number: f"s{place}" for place, number in enumerate(body.kept)}
        self.over = {
            result: f"x{source}" for result, source in zip(body.results, body.into, strict=True) if source >= 0
        }

    def text(self) -> str:
        periodic = [number for number, item in enumerate(self.body.inputs) if "p" in item.space]
        repeats = [name for number in periodic for name in (f"q{number}", f"p{number}")]
        arguments = ["R", "C", *repeats, *self.arrays, *self.scratch.values()]
        # written into its entry, what is compiled is half as much
        self.lines = ["@inlined" if len(arguments) <= INLINED else "@exact", f"def loop({', '.join(arguments)}):"]
        self._uniform()
        self.put(1, "for r in range(R):")
        self._row()
        for number, step in self.steps:
            if step.kind == "total" and number in self.memory:
                self.put(1, f"{self.memory[number]}[0] = t{number}")
        for number, name in self.memory.items():
            if self.values[number].space == "" and not self.body.is_total(number):
                self.put(1, f"{name}[0] = v{number}")
        return "\n".join(self.lines) + "\n"

    def put(self, depth: int, line: str) -> None:
        """One more line."""
        self.lines.append("    " * depth + line)

    def _uniform(self) -> None:
        """What does not depend on the row, and the beginnings of sums."""
        for number, item in enumerate(self.body.inputs):
            if item.space == "":
                self.put(1, f"v{number} = x{number}[0]")
        for number, step in self.steps:
            if step.kind == "column":
                self.put(1, f"{self.memory[number]}[:] = 0")
            elif step.kind == "total":
                self.put(1, f"t{number} = f8(0)")
            elif step.space == "" and self.body.stages[number] == 0:
                self._compute(1, number, step)

    def _row(self) -> None:
        """The body of the loop over rows."""
        for number, item in enumerate(self.body.inputs):
            row = f"(r // q{number} % p{number})" if "p" in item.space else "r"
            if item.space in ("r", "p"):
                self.put(2, f"v{number} = x{number}[{row}]")
            elif "c" in item.space:
                self._slice(f"x{number}", None if item.space == "c" else row)
        for number, name in self.memory.items():
            if "c" in self.values[number].space:
                self._slice(name, "r" if self.values[number].space == "rc" else None)
        for stage in range(max(self.body.stages, default=0) + 1):
            self._stage(stage)
        for number, name in self.memory.items():
            if self.values[number].space == "r":
                self.put(2, f"{name}[r] = v{number}")

    def _slice(self, name: str, row: str | None) -> None:
        """The row of an array as one of its own, which compilers vectorise."""
        self.put(2, f"{name}r = {name}" if row is None else f"{name}r = {name}[{row} * C:{row} * C + C]")

    def _stage(self, stage: int) -> None:
        """One loop along the row, and before it what is one number per row."""
        here = [(number, step) for number, step in self.steps if self._reading_stage(number, step) == stage]
        for number, step in self.steps:
            if step.space == "r" and step.kind != "row" and self.body.stages[number] == stage:
                self._compute(2, number, step)
        for number, step in here:
            if step.kind == "total" and step.reads == "r":
                self.put(2, f"t{number} += v{step.inputs[0]}")
        inner = [(n, step) for n, step in here if step.space == "rc" or "c" in step.reads]
        for number, step in inner:
            if step.kind == "row":
                self.put(2, f"v{number} = {NAMES[step.dtype]}({'0' if step.name == 'sum' else '-inf'})")
            elif step.kind == "total":
                self.put(2, f"u{number} = {NAMES[step.dtype]}(0)")
        if inner:
            self._loop(inner, stage)
        for number, step in inner:
            if step.kind == "total":
                self.put(2, f"t{number} += u{number}")

    def _reading_stage(self, number: int, step: Step) -> int:
        """The stage in whose loop a step stands."""
        return self.body.stages[number] - (step.kind == "row")

    def _loop(self, inner: list[tuple[int, Step]], stage: int) -> None:
        arrays = [f"{name}r" for name in (*self.arrays,) if f"        {name}r = " in "\n".join(self.lines)]
        bound = f"{arrays[0]}.shape[0]" if arrays else "C"
        self.put(2, f"for c in range({bound}):")
        computed = {number for number, step in inner if step.space == "rc"}
        known = set(computed)
        for _, step in inner:
            self._fetch(step.inputs, known)
        for number, step in inner:
            match step.kind:
                case "row":
                    self.put(
                        3,
                        f"v{number} = {'add' if step.name == 'sum' else 'greatest'}_{NAMES[step.dtype]}"
                        f"(v{number}, v{step.inputs[0]})",
                    )
                case "column":
                    self.put(3, f"{self.memory[number]}r[c] += v{step.inputs[0]}")
                case "total":
                    self.put(3, f"u{number} = add_{NAMES[step.dtype]}(u{number}, v{step.inputs[0]})")
                case _:
                    self._compute(3, number, step)
        for number in sorted(computed):
            for place in (self.memory.get(number), self.over.get(number)):
                if place is not None:
                    self.put(3, f"{place}r[c] = v{number}")
            if number in self.scratch:
                self.put(3, f"{self.scratch[number]}[c] = v{number}")

    def _fetch(self, numbers: Sequence[int], known: set[int]) -> None:
        """Load what is not `known` of the values with these numbers, or compute it again."""
        for number in numbers:
            if number in known or "c" not in self.values[number].space:
                continue
            known.add(number)
            if number < len(self.body.inputs) or number in self.memory or number in self.scratch:
                self.put(3, f"v{number} = {self._place(number)}[c]")
            else:
                step = self.body.steps[number - len(self.body.inputs)]
                self._fetch(step.inputs, known)
                self._compute(3, number, step)

    def _place(self, number: int) -> str:
        """The row from which a later stage loads a value."""
        if number < len(self.body.inputs):
            return f"x{number}r"
        return f"{self.memory[number]}r" if number in self.memory else self.scratch[number]

    def _compute(self, depth: int, number: int, step: Step) -> None:
        """`v{number} = …`"""
        self.put(depth, f"v{number} = {expression(step, self.values)}")


def expression(step: Step, values: tuple[Value, ...]) -> str:
    """What a step computes, from the scalar expression of its operator."""
    match step.kind:
        case "literal":
            value = np.array(step.op.value, step.dtype)  # type: ignore[attr-defined]  # its operator is a full
            if NAMES[step.dtype] in BITS:
                return f"u2({int(value.view(np.uint16))})"
            return f"{NAMES[step.dtype]}({value.item()!r})"
        case "same":
            return f"v{step.inputs[0]}"
        case "index":
            counted: Any = step.op  # an arange
            first = counted.start + counted.step * counted.offset
            return f"{NAMES[step.dtype]}({first} + {counted.step} * c)"
    names = dict(zip("abc", (f"v{number}" for number in step.inputs), strict=False))
    text = LETTER.sub(lambda found: names[found[0]], step.op.scalar)
    kind, made = NAMES[values[step.inputs[-1]].dtype], NAMES[step.dtype]
    if (kind in BITS or made in BITS) and kind != made:
        return f"{made}_{kind}({text})"
    text = FUNCTION.sub(lambda found: f"{found[1]}_{kind}(", text)
    return text if step.dtype == "bool" else f"{made}({text})"
