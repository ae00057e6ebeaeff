"""A user's operator is checked as ours are: a right one passes, and each planted mistake is named."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import flowcore as fc
from flowcore.dispatch import apply
from flowcore.op import OPS, Op, Sample, Type, operator
from flowcore.placement.signature import Algebra, Equation
from flowcore.testing import check_op

DOCS = Path(__file__).parent.parent.parent / "docs" / "custom-operators.md"
FLOAT64 = np.dtype("float64")
LINEAR = Algebra(linear=(frozenset({0}),), reduction="sum")


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Operators defined here are taken out of the registry again."""
    before = dict(OPS)
    yield
    OPS.clear()
    OPS.update(before)


class Scaled(Op):
    """y[m] = factor Σ_n x[m,n]; subclasses plant mistakes."""

    factor: float = 2.0

    algebra: ClassVar[Algebra] = LINEAR

    def infer(self, x: Type) -> tuple[Type, ...]:
        return (Type(x.shape[:-1], x.dtype),)

    def equation(self, x: Type) -> Equation:
        term = "abcdefgh"[: x.ndim]
        return Equation((term,), (term[:-1],))

    def kernel(self, x: Any) -> Any:
        return self.factor * x.sum(axis=-1)

    def vjp(self, dy: Any, x: Any) -> Any:
        return fc.broadcast_to(fc.expand_dims(dy * self.factor, -1), x.shape)

    def batched(self, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op | None:
        return self

    @classmethod
    def samples(cls) -> Sequence[Sample]:
        return (Sample(cls(), (Type((5, 7), FLOAT64),)), Sample(cls(factor=-1.5), (Type((3, 5, 4), FLOAT64),)))


def define(**changed: Any) -> type[Op]:
    """An operator like `Scaled`, but for what is changed."""
    body = {"name": "changed", "__annotations__": {"factor": float}, "factor": 2.0, **changed}
    return operator(type("Changed", (Scaled,), body))


def test_a_right_operator_passes_and_the_report_counts_what_was_checked(capsys: Any) -> None:
    report = check_op(define())
    assert report.is_right and report.counts == dict.fromkeys(report.counts, 2)
    assert "changed: right" in capsys.readouterr().out


def forgets_the_factor(self: Any, dy: Any, x: Any) -> Any:
    return fc.broadcast_to(fc.expand_dims(dy, -1), x.shape)


def changes_the_factor(self: Any, flags: Sequence[bool], size: int, types: Sequence[Type]) -> Op:
    return type(self)(factor=self.factor + 1)  # type: ignore[call-arg]  # a subclass has the attribute


def gives_float32(self: Any, x: Any) -> Any:
    return (self.factor * x.sum(axis=-1)).astype(np.float32)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a wrong gradient": ({"vjp": forgets_the_factor}, "derivatives: the derivative by reverse"),
    "a gradient of another shape": ({"vjp": lambda self, dy, x: dy}, "derivatives: .*shape"),
    "no gradient": ({"vjp": Op.vjp}, "derivatives: .*has no gradient"),
    "an unsound signature": ({"algebra": replace(LINEAR, reduction="max")}, "signatures: unsound on 2 ranks: S1"),
    "a missing signature": ({"algebra": replace(LINEAR, linear=())}, "signatures: missing on 2 ranks: P"),
    "a wrong batching rule": ({"batched": changes_the_factor}, "vmap: .*differs from a loop"),
    "no batching rule": ({"batched": Op.batched}, "vmap: .*no batching rule"),
    "a kernel that does not fit": ({"kernel": gives_float32}, "kernel: the kernel gives float32"),
    "no samples": ({"samples": classmethod(lambda cls: ())}, "samples: there are none"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_is_named(mistake: str) -> None:
    changed, words = MISTAKES[mistake]
    with pytest.raises(fc.testing.CheckError, match=words):
        check_op(define(**changed))


def test_an_index_equation_gives_shapes_signatures_and_batches() -> None:
    class Product(Op):
        name = "product"
        index_equation = "...mk,...kn->...mn"
        algebra = Algebra(linear=(frozenset({0}), frozenset({1})), reduction="sum")

        def kernel(self, a: Any, b: Any) -> Any:
            return a @ b

        def vjp(self, dy: Any, a: Any, b: Any) -> Any:
            return dy @ b.mT, a.mT @ dy

    made = operator(Product)
    assert check_op(made, [Sample(made(), (Type((5, 7), FLOAT64), Type((7, 4), FLOAT64)))]).is_right
    for shapes, words in (((5, 7), (6, 4)), "one length"), (((5, 7), (2, 7, 4)), "leading"), (((7,), (7, 4)), "fit"):
        with pytest.raises(fc.ShapeError, match=words):
            made().infer(*(Type(shape, FLOAT64) for shape in shapes))


def test_the_operator_of_the_documentation_is_right() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    space: dict[str, Any] = {"__name__": "documented"}
    exec(compile(code, str(DOCS), "exec"), space)  # the very text that users read
    x = fc.asarray(np.array([[3.0, 4.0], [0.0, 2.0]]))
    np.testing.assert_allclose(space["row_norms"](x).numpy(), [25.0, 4.0])
    assert apply(OPS["row_norms"](), x).shape == (2,)
