"""`check_op`: what is wrong or missing in an operator, user-defined or ours, told check by check.

The tests over flowcore's own registry run the same checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from flowcore.derivative_check import batching_problems, derivative_problems, has_gradient, mixed_problems
from flowcore.errors import FlowcoreError
from flowcore.op import Op, Sample, Type, as_tuple
from flowcore.op_text import parse_op
from flowcore.placement.sbp import B
from flowcore.simulate import inputs_of, judge, random_of

__all__ = ["CheckError", "Report", "check_op"]

RANKS = (2, 3)
SHOWN = 6
"""So many signatures are listed at most."""


class CheckError(FlowcoreError, AssertionError):
    """An operator fails a check; the text is the report."""


@dataclass(frozen=True)
class Finding:
    """What one check found on one sample."""

    check: str
    sample: str
    problem: str

    def __str__(self) -> str:
        return f"{self.check}: {self.problem} [{self.sample}]"


@dataclass(frozen=True)
class Report:
    """What was checked, and every problem."""

    name: str
    counts: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def is_right(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def __str__(self) -> str:
        head = "right" if self.is_right else f"{len(self.findings)} problems"
        lines = [f"{self.name}: {head}", *(f"  {check}: {count} checked" for check, count in self.counts.items())]
        return "\n".join((*lines, *(f"  WRONG {finding}" for finding in self.findings)))


def kernel_problems(sample: Sample) -> Iterator[str]:
    """Where the kernel does not give what `infer` promises, or changes its inputs."""
    arrays = inputs_of(sample, random_of(sample))
    for array in arrays:
        array.flags.writeable = False
    with np.errstate(all="ignore"):
        results = as_tuple(sample.op.kernel(*arrays))
    found = tuple(Type(np.shape(result), np.asarray(result).dtype) for result in results)
    promised = sample.op.infer(*sample.types)
    if found != promised:
        yield f"the kernel gives {', '.join(map(str, found))} but infer promises {', '.join(map(str, promised))}"
    if parse_op(sample.op.text()) != sample.op:
        yield "the operator does not read back from its text: its fields must be numbers, strings and tuples of them"


def signature_problems(sample: Sample) -> Iterator[str]:
    """Declared signatures that are wrong, and right ones that are not declared, on 2 and 3 ranks."""
    for parts in RANKS:
        declared = sample.op.signatures(sample.types, parts)
        if not declared or any(sbp != B for sbp in (*declared[0].inputs, *declared[0].outputs)):
            yield f"on {parts} ranks the first signature is not the one in which everything is B"
        verdict = judge(sample, parts, declared)
        for kind, remedy in (("unsound", "gives wrong numbers"), ("missing", "is right, but not declared")):
            for signature in sorted(getattr(verdict, kind), key=str)[:SHOWN]:
                yield f"{kind} on {parts} ranks: {signature} {remedy}"


CHECKS: dict[str, Callable[[Sample], Iterable[str]]] = {
    "kernel": kernel_problems,
    "signatures": signature_problems,
    "derivatives": derivative_problems,
    "vmap": batching_problems,
    "vmap of gradients": mixed_problems,
}
DIFFERENTIABLE = ("derivatives", "vmap of gradients")


def check_op(operator: type[Op], samples: Iterable[Sample] | None = None) -> Report:
    """Run every check on every sample of `operator` (by default its own `samples()`), and print what it found.

    The kernel against the shape rule; the signatures against brute force on 2 and 3 simulated ranks; first and second
    derivatives in reverse and forward mode against differences; vmap, and vmap with gradients, against a loop.
    CheckError with the report's text where something is wrong.
    """
    if not (isinstance(operator, type) and issubclass(operator, Op)):
        raise CheckError(f"check_op of {operator!r}: pass a class of operators, a subclass of Op")
    cases = tuple(operator.samples() if samples is None else samples)
    counts = dict.fromkeys(CHECKS, 0)
    found = [] if cases else [Finding("samples", operator.name, "there are none: give it samples() or pass some")]
    for sample in cases:
        shown = f"{sample.op} of {', '.join(map(str, sample.types)) or 'nothing'}"
        for check, problems in CHECKS.items():
            if check in DIFFERENTIABLE and not has_gradient(sample):
                continue
            counts[check] += 1
            found.extend(Finding(check, shown, problem) for problem in _told(problems, sample))
    report = Report(operator.name, counts, tuple(found))
    print(report)
    if not report.is_right:
        raise CheckError(str(report))
    return report


def _told(problems: Callable[[Sample], Iterable[str]], sample: Sample) -> list[str]:
    """The problems, an exception being one."""
    try:
        return list(problems(sample))
    except Exception as error:  # whatever a user's operator raises is what there is to report
        return [f"{type(error).__name__}: {error}"]
