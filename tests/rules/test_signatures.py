"""Every declared signature of every operator is sound, and every sound one is declared (or excluded with a reason)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

import flowcore  # noqa: F401  # fills the registry
from flowcore.boxing_op import LAYOUT_OPERATORS
from flowcore.op import OPS, Array, Block, Op, Sample, Type, as_tuple
from flowcore.ops.arithmetic import Add
from flowcore.ops.gather import Take
from flowcore.placement.layout import Shape
from flowcore.placement.sbp import B, Partial, Split
from flowcore.placement.signature import Signature
from flowcore.signatures import nd_signatures
from flowcore.simulate import Run, inputs_of, judge, lay, random_of

NAMES = sorted(name for name, cls in OPS.items() if not issubclass(cls, LAYOUT_OPERATORS) and not cls.bodies)
"""All others but those that hold graphs, whose signatures are those of the graphs."""
MOST_CHOICES = 40
"""How many products of signatures are tried per sample and mesh."""


@pytest.mark.parametrize("name", NAMES)
def test_every_operator_has_samples(name: str) -> None:
    assert OPS[name].samples(), f"{name} has no samples: the tests over the registry cannot see it"


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_declared_signatures_are_exactly_the_sound_ones(name: str, parts: int, tally: list[object]) -> None:
    for sample in OPS[name].samples():
        declared = sample.op.signatures(sample.types, parts)
        verdict = judge(sample, parts, declared)
        tally.append((name, parts, sample, verdict))
        shown = f"{sample.op} of {', '.join(map(str, sample.types))} on {parts} ranks"
        assert len(set(declared)) == len(declared), f"{shown}: a signature is declared twice"
        assert all(sbp == B for sbp in (*declared[0].inputs, *declared[0].outputs)), f"{shown}: all-B is not first"
        assert not verdict.unsound, f"{shown}: unsound {sorted(map(str, verdict.unsound))}"
        assert not verdict.missing, f"{shown}: missing {sorted(map(str, verdict.missing))}"


@pytest.mark.parametrize("mesh", [(2, 2), (2, 3)])
@pytest.mark.parametrize("name", NAMES)
def test_products_of_signatures_are_sound_on_meshes(name: str, mesh: Shape) -> None:
    for sample in OPS[name].samples():
        op, types = sample.op, sample.types
        random = random_of(sample, mesh)
        choices = nd_signatures(op, types, mesh)
        assert all(sbp == B for axis in choices[0] for sbp in (*axis.inputs, *axis.outputs))
        assert len(set(choices)) == len(choices)
        if len(choices) > MOST_CHOICES:
            choices = tuple(choices[i] for i in random.choice(len(choices), MOST_CHOICES, replace=False))
        with np.errstate(all="ignore"):
            arrays = inputs_of(sample, random)
            whole = tuple(np.asarray(result) for result in as_tuple(op.kernel(*arrays)))
            run = Run(op, types, op.infer(*types), mesh)
            for choice in choices:
                inputs = tuple(tuple(axis.inputs[i] for axis in choice) for i in range(len(types)))
                outputs = tuple(tuple(axis.outputs[o] for axis in choice) for o in range(len(whole)))
                blocks = [lay(array, sbp, mesh, random) for array, sbp in zip(arrays, inputs, strict=True)]
                shown = f"{op} of {', '.join(map(str, types))} on {mesh}: {' | '.join(map(str, choice))}"
                assert run.given(inputs, blocks).gives(outputs, whole), shown


PAIR = Sample(Add(), (Type((5, 7), np.dtype("float64")),) * 2, excluded=Add.excluded)
WRONG = (
    Signature((Partial(), B), (Partial(),)),
    Signature((Split(0), B), (Split(0),)),
    Signature((Split(0), Split(1)), (Split(0),)),
    Signature((Partial("max"), Partial("max")), (Partial("max"),)),
    Signature((B, B), (Split(0),)),
    Signature((B, B), (Partial(),)),
)


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_planted_wrong_signature_is_found(wrong: Signature) -> None:
    declared = PAIR.op.signatures(PAIR.types, 2)
    assert judge(PAIR, 2, (*declared, wrong)).unsound == {wrong}


def test_every_signature_left_out_is_found() -> None:
    declared = PAIR.op.signatures(PAIR.types, 2)
    for left_out in declared[1:]:
        rest = [signature for signature in declared if signature != left_out]
        assert judge(PAIR, 2, rest).missing == {left_out}


@dataclass(frozen=True)
class ForgetfulTake(Take):
    """A mutant: it does not tell the ranks which rows they hold."""

    def localize(self, inputs: Sequence[Block], outputs: Sequence[Block]) -> Op:
        return self


@dataclass(frozen=True)
class WrappedTake(Take):
    """A mutant: rows that a rank does not hold are not zero."""

    def kernel(self, table: Array, indices: Array) -> Array:
        return np.take(table, (indices - self.start) % table.shape[self.axis], axis=self.axis)


@pytest.mark.parametrize("mutant", [ForgetfulTake, WrappedTake])
def test_a_wrong_localize_or_kernel_is_found(mutant: type[Take]) -> None:
    sample = Sample(
        mutant(0), (Type((5, 7), np.dtype("float64")), Type((4,), np.dtype("int64"))), ("normal", "index:5")
    )
    wrong = judge(sample, 2, sample.op.signatures(sample.types, 2)).unsound
    assert wrong == {Signature((Split(0), B), (Partial(),))}
