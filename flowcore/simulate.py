"""Simulated ranks: values are laid out in blocks, an operator runs on every rank's, the results are put together.

A partial value is laid out in any terms whose reduction is the value: sums of integers wrap around, terms of a max may
be its identity, as a rank with an empty block has it. What is sound must be so for all of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import overload
from zlib import crc32

import numpy as np

from flowcore.dtypes import is_float, kind_of
from flowcore.op import Array, Block, Op, Sample, Type, as_tuple, is_valid, local_block
from flowcore.placement.layout import Shape, block, box_size, intersect
from flowcore.placement.sbp import REDUCTIONS, SBP, B, Broadcast, NdSbp, Partial, Split, Window
from flowcore.placement.signature import Signature

Random = np.random.Generator
Ops = tuple[Op | None, ...]
UFUNCS = {"sum": np.add, "max": np.maximum, "min": np.minimum}
TOLERANCE = {"bfloat16": 5e-2, "float16": 1e-2, "float32": 1e-4, "complex64": 1e-4, "float64": 1e-9, "complex128": 1e-9}
TRIALS, FEW, TRIALS_OF_FEW = 12, 8, 64
"""Values are drawn so often, and more often where a result has few elements, before a signature counts as sound."""


def draw(type: Type, how: str, random: Random) -> Array:
    """A whole value of `type`, drawn as `Sample.draw` says."""
    kind, _, bound = how.partition(":")
    value: Array
    match kind, kind_of(type.dtype):
        case "index", _:
            value = random.integers(0, int(bound), type.shape)
        case "key", _:
            value = random.integers(0, 2**31, type.shape)
        case "small", _:
            value = random.integers(0, 7, type.shape)
        case "whole", kind:
            value = random.integers(0 if kind == "u" else -3, 4, type.shape)
        case "definite", _:
            factor = draw(type, "normal", random)
            value = factor @ np.conj(np.swapaxes(factor, -1, -2)) + np.eye(type.shape[-1])
        case "unit", _:
            value = random.uniform(-0.9, 0.9, type.shape)
        case "above 1", _:
            value = random.uniform(1.5, 4.0, type.shape)
        case "positive", _:
            value = random.uniform(0.5, 3.0, type.shape)
        case _, "b":
            value = random.random(type.shape) < 0.5
        case _, "i":
            info = np.iinfo(type.dtype)
            extreme = random.choice([info.min, info.max], type.shape)
            value = np.where(random.random(type.shape) < 0.1, extreme, random.integers(-9, 10, type.shape))
        case _, "u":
            value = random.integers(0, 10, type.shape)
        case _, "c":
            value = random.normal(size=type.shape) + 1j * random.normal(size=type.shape)
        case _:
            value = random.normal(size=type.shape)
    value = np.asarray(value, type.dtype)
    if kind == "sorted":
        value = np.sort(value, axis=-1)
    if kind == "special":
        special = random.choice([np.nan, np.inf, -np.inf], type.shape)
        value = np.where(random.random(type.shape) < 0.3, special, value).astype(type.dtype)
    return value


def inputs_of(sample: Sample, random: Random) -> list[Array]:
    """Whole inputs for `sample`."""
    how = sample.draw or ("normal",) * len(sample.types)
    return [draw(type, drawn, random) for type, drawn in zip(sample.types, how, strict=True)]


def terms(value: Array, op: str, parts: int, random: Random) -> list[Array]:
    """`parts` arrays whose reduction by `op` is `value`."""
    if op == "sum":
        shape = (parts - 1, *value.shape)
        if value.dtype.kind in "iu":
            info = np.iinfo(value.dtype)
            others = random.integers(info.min, info.max, shape, value.dtype, endpoint=True)
        else:
            others = draw(Type(shape, value.dtype), "normal", random)
        return [*others, np.asarray(value - others.sum(axis=0, dtype=value.dtype), value.dtype)]
    owner = random.integers(0, parts, value.shape)
    return [np.where(owner == rank, value, _beyond(value, op, random)).astype(value.dtype) for rank in range(parts)]


def _beyond(value: Array, op: str, random: Random) -> Array:
    """Elements that do not change `value` under max or min, some of them the identity."""
    if value.dtype.kind == "b":
        free = random.random(value.shape) < 0.5
        return value & free if op == "max" else value | free
    sign, near = -1 if op == "max" else 1, random.integers(0, 4, value.shape)
    moved: Array
    identity: float
    if value.dtype.kind in "iu":
        info = np.iinfo(value.dtype)
        room = value - info.min if op == "max" else info.max - value
        room = np.where(room < 0, 12, room)  # the difference wrapped around: there is room
        moved, identity = value + sign * np.minimum(near, room), info.min if op == "max" else info.max
    else:
        far = np.abs(random.normal(size=value.shape)) * 3
        moved, identity = value + sign * np.where(random.random(value.shape) < 0.5, near, far), sign * np.inf
    return np.where(random.random(value.shape) < 0.3, identity, moved)


def lay(value: Array, sbp: NdSbp, mesh: Shape, random: Random) -> list[Array]:
    """The blocks of the ranks of a mesh, in row-major order."""
    if not mesh:
        return [value]
    first = sbp[0]
    if isinstance(first, Partial):
        local = terms(value, first.op, mesh[0], random)
    else:
        boxes = [block(value.shape, mesh[:1], (first,), (rank,)) for rank in range(mesh[0])]
        local = [value[tuple(slice(start, stop) for start, stop in box)] for box in boxes]
    return [held for part in local for held in lay(part, sbp[1:], mesh[1:], random)]


def assemble(blocks: Sequence[Array], type: Type, sbp: NdSbp, mesh: Shape, tolerance: float) -> Array | None:
    """The whole value that the ranks' blocks claim to be; None where a block has a wrong shape or dtype."""
    if not mesh:
        (held,) = blocks
        return held if held.shape == type.shape and held.dtype == type.dtype else None
    first, each = sbp[0], len(blocks) // mesh[0]
    parts = []
    for rank in range(mesh[0]):
        shape = local_block(type.shape, mesh[:1], (first,), (rank,)).local
        part = assemble(blocks[rank * each :][:each], Type(shape, type.dtype), sbp[1:], mesh[1:], tolerance)
        if part is None:
            return None
        parts.append(part)
    match first:
        case Split(axis):
            return np.concatenate(parts, axis=axis)
        case Partial(op):
            return reduce(UFUNCS[op], parts)
        case Broadcast():
            return parts[0] if all(is_close(part, parts[0], tolerance) for part in parts) else None
        case _:
            return None


def tolerance_of(types: Sequence[Type]) -> float:
    """How far results may be off by the rounding of a few operations on these types; 0: not at all."""
    return max((TOLERANCE.get(type.dtype.name, 0.0) for type in types), default=0.0)


def is_close(a: Array, b: Array, tolerance: float) -> bool:
    """Equal, to a relative and absolute error; whole numbers exactly."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not is_float(a.dtype):
        return bool(np.array_equal(a, b))
    return bool(np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True))


class _Noted(Sequence[Block]):
    """Blocks, and whether anybody has asked for one."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks, self.is_read = blocks, False

    @overload
    def __getitem__(self, place: int) -> Block: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Block]: ...

    def __getitem__(self, place: int | slice) -> Block | Sequence[Block]:
        self.is_read = True
        return self.blocks[place]

    def __len__(self) -> int:
        return len(self.blocks)


class Run:
    """One operator on the blocks of its inputs on the ranks of a mesh."""

    def __init__(self, op: Op, types: Sequence[Type], results: Sequence[Type], mesh: Shape) -> None:
        self.op, self.types, self.results, self.mesh = op, types, results, mesh
        self.tolerance = tolerance_of((*types, *results))
        self.ranks = list(product(*map(range, mesh)))
        self.cache: dict[tuple[int, Op], tuple[Array, ...] | None] = {}
        self.right: dict[tuple[int, NdSbp, Ops], bool] = {}
        self.ops: Ops = ()
        """What the ranks run whatever the layouts of the results; empty where it depends on these, or is not known."""
        self.blocks: list[list[Array]] = []
        self.held: list[list[Block]] = []
        self.made: dict[tuple[int, int, NdSbp], Block] = {}

    def given(self, inputs: tuple[NdSbp, ...], blocks: list[list[Array]]) -> Run:
        """The run with these layouts of the inputs, and the blocks of each."""
        self.blocks, self.cache, self.right, self.ops = blocks, {}, {}, ()
        self.held = [
            [local_block(type.shape, self.mesh, sbp, at) for type, sbp in zip(self.types, inputs, strict=True)]
            for at in self.ranks
        ]
        return self

    def gives(self, outputs: tuple[NdSbp, ...], whole: tuple[Array, ...]) -> bool:
        """Whether the results, put together as laid out by `outputs`, are `whole`, the same for all these layouts."""
        ops = self.ops or self.localized(outputs)
        for number, sbp in enumerate(outputs):
            key = number, sbp, () if ops is self.ops else ops
            if key not in self.right:
                self.right[key] = self._is_right(number, sbp, ops, whole[number])
            if not self.right[key]:
                return False
        return True

    def _is_right(self, number: int, sbp: NdSbp, ops: Ops, expected: Array) -> bool:
        """Whether result `number` of what the ranks run is `expected`."""
        results = [self.local(rank, op) for rank, op in enumerate(ops)]
        held = [result[number] for result in results if result]
        if len(held) < len(results):
            return False
        found = assemble(held, self.results[number], sbp, self.mesh, self.tolerance)
        return found is not None and is_close(found, expected, self.tolerance)

    def block(self, number: int, sbp: NdSbp, rank: int) -> Block:
        """The part of result `number` that a rank holds where it is laid out as `sbp`."""
        key = number, rank, sbp
        if key not in self.made:
            self.made[key] = local_block(self.results[number].shape, self.mesh, sbp, self.ranks[rank])
        return self.made[key]

    def localized(self, outputs: tuple[NdSbp, ...]) -> Ops:
        """What the ranks run; None for one that cannot."""
        made = [
            _Noted([self.block(number, sbp, rank) for number, sbp in enumerate(outputs)])
            for rank in range(len(self.ranks))
        ]
        ops = tuple(self._local_op(*blocks) for blocks in zip(self.held, made, strict=True))
        if not any(blocks.is_read for blocks in made):
            self.ops = ops
        return ops

    def _local_op(self, held: Sequence[Block], made: Sequence[Block]) -> Op | None:
        try:
            return self.op.localize(held, made)
        except Exception:
            return None

    def local(self, rank: int, op: Op | None) -> tuple[Array, ...] | None:
        """What one rank computes by `op`; None where it fails."""
        if op is None:
            return None
        try:
            if (rank, op) not in self.cache:
                self.cache[rank, op] = None
                results = as_tuple(op.kernel(*(blocks[rank] for blocks in self.blocks)))
                self.cache[rank, op] = tuple(np.asarray(result) for result in results)
            return self.cache[rank, op]
        except Exception:
            return None


def layouts(type: Type, windows: Iterable[SBP] = ()) -> list[SBP]:
    """Every SBP that a value of `type` can have or be read in."""
    every: list[SBP] = [B, *map(Split, range(type.ndim)), *map(Partial, REDUCTIONS), *windows]
    return [sbp for sbp in every if is_valid(sbp, type)]


def random_of(sample: Sample, *more: object) -> Random:
    """A generator seeded by the sample alone."""
    return np.random.default_rng(crc32(f"{sample.op} {sample.types} {more}".encode()))


def sound_signatures(sample: Sample, parts: int) -> set[Signature]:
    """Every signature under which the operator is right on `parts` ranks, whatever the values."""
    op, types = sample.op, sample.types
    results = op.infer(*types)
    makes = list(product(*map(layouts, results)))
    declared = op.signatures(types, parts)
    windows = [
        {s.inputs[place]: None for s in declared if isinstance(s.inputs[place], Window)} for place in range(len(types))
    ]
    reads = [layouts(type, found) for type, found in zip(types, windows, strict=True)]
    alive = dict.fromkeys(product(*reads), makes)
    with np.errstate(all="ignore"):
        for trial in range(TRIALS_OF_FEW if min(result.size for result in results) < FEW else TRIALS):
            random = random_of(sample, parts, trial)
            arrays = inputs_of(sample, random)
            whole = tuple(np.asarray(result) for result in as_tuple(op.kernel(*arrays)))
            run = Run(op, types, results, (parts,))
            laid = [
                {sbp: lay(array, (sbp,), (parts,), random) for sbp in every}
                for array, every in zip(arrays, reads, strict=True)
            ]
            for inputs, outputs in list(alive.items()):
                blocks = [blocks[sbp] for blocks, sbp in zip(laid, inputs, strict=True)]
                run.given(tuple((sbp,) for sbp in inputs), blocks)
                left = [made for made in outputs if run.gives(tuple((sbp,) for sbp in made), whole)]
                alive[inputs] = left
                if not left:
                    del alive[inputs]
    return {Signature(inputs, made) for inputs, outputs in alive.items() for made in outputs}


def is_implied(signature: Signature, declared: Signature, types: Sequence[Type], parts: int) -> bool:
    """Whether `signature` follows from `declared`: a replicated value is also a partial max and min of itself, and
    blocks that hold the windows of an operand, cut to these without a byte moved, serve as well.
    """
    idempotent = (Partial("max"), Partial("min"))
    outputs = zip(signature.outputs, declared.outputs, strict=True)
    return all(
        have == wants or (have == B and wants in idempotent) or holds(have, wants, type, parts)
        for have, wants, type in zip(signature.inputs, declared.inputs, types, strict=True)
    ) and all(claims == makes or (makes == B and claims in idempotent) for claims, makes in outputs)


def holds(have: SBP, wants: SBP, type: Type, parts: int) -> bool:
    """Whether every rank's block of a value laid out as `have` holds the window that it `wants`."""
    if not isinstance(wants, Window) or isinstance(have, Partial):
        return False
    pairs = [[block(type.shape, (parts,), (sbp,), (rank,)) for sbp in (have, wants)] for rank in range(parts)]
    return all(box_size(needed) == 0 or intersect(held, needed) == needed for held, needed in pairs)


@dataclass(frozen=True)
class Verdict:
    """The declared signatures of one sample beside those found sound."""

    declared: frozenset[Signature]
    unsound: frozenset[Signature]
    missing: frozenset[Signature]
    implied: frozenset[Signature]
    excluded: tuple[tuple[Signature, str], ...]


def judge(sample: Sample, parts: int, declared: Sequence[Signature]) -> Verdict:
    """`declared` against the truth."""
    sound, stated = sound_signatures(sample, parts), frozenset(declared)
    reasons = dict(sample.excluded)
    extra = sound - stated
    types = sample.types
    implied = frozenset(found for found in extra if any(is_implied(found, known, types, parts) for known in stated))
    excluded = tuple(
        (found, reasons[str(found)]) for found in sorted(extra - implied, key=str) if str(found) in reasons
    )
    missing = extra - implied - {found for found, _ in excluded}
    return Verdict(stated, stated - sound, frozenset(missing), implied, excluded)


def samples(registry: dict[str, type[Op]], skip: tuple[type[Op], ...]) -> Iterator[Sample]:
    """Every sample of every operator of `registry`, but for the operators that change layouts."""
    for cls in registry.values():
        if not issubclass(cls, skip):
            yield from cls.samples()
