"""einsum against numpy's: letters twice, alone and absent, ellipses, lengths of 1, many operands, every placement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.launch import run
from flowcore.ops.einsum import _tree

CASES: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
    ("ij->ji", ((3, 4),)), ("ij", ((3, 4),)), ("ji", ((3, 4),)), ("ij->", ((3, 4),)), ("ij->j", ((3, 4),)),
    ("ii", ((3, 3),)), ("ii->i", ((3, 3),)), ("iij->ji", ((3, 3, 4),)), ("iii->i", ((3, 3, 3),)), ("->", ((),)),
    ("ijji->", ((3, 4, 4, 3),)), ("...ii->...i", ((2, 3, 3),)), ("i...->...", ((2, 3, 4),)), ("...", ((2, 3),)),
    ("ij,jk", ((3, 4), (4, 5))), ("ij,jk->ki", ((3, 4), (4, 5))), ("ij,kj->ik", ((3, 4), (5, 4))),
    ("i,j->ij", ((3,), (4,))), ("i,i->", ((3,), (3,))), ("ij,ij->ij", ((3, 4), (3, 4))), (",i->i", ((), (3,))),
    ("ij,kl->", ((3, 4), (2, 5))), ("ijk,k->ij", ((3, 4, 5), (5,))), ("ij,j->j", ((3, 4), (4,))),
    ("bij,bjk->bik", ((2, 3, 4), (2, 4, 5))), ("bhqd,bhkd->bhqk", ((2, 3, 4, 5), (2, 3, 2, 5))),
    ("...ij,...jk->...ik", ((2, 1, 3, 4), (3, 4, 5))), ("...ij,jk", ((2, 3, 4), (4, 5))),
    ("i...,i...->...", ((3, 4), (3, 1))),
    ("ij,ij->ij", ((3, 1), (1, 4))), ("ij,jk->ik", ((3, 1), (4, 5))), ("ii,ij->j", ((3, 3), (3, 4))),
    ("AB,Ba->Aa", ((3, 4), (4, 2))), ("ab,bc,cd->ad", ((3, 4), (4, 5), (5, 2))), ("a,b,c->abc", ((2,), (3,), (4,))),
    ("ab,ac,ad->bcd", ((5, 2), (5, 3), (5, 4))), ("ij,ij,ij->i", ((3, 4), (3, 4), (3, 4))),
    ("abc,bd,ce,df,eg->afg", ((2, 3, 4), (3, 2), (4, 3), (2, 5), (3, 4))), ("ij,jk->ik", ((0, 4), (4, 5))),
    ("ij,jk->ik", ((3, 0), (0, 5))), ("ab,bc,cd,de,ef,fg,gh,hi,ij->aj", ((2, 3),) + ((3, 3),) * 7 + ((3, 2),)),
]  # fmt: skip


def drawn(shapes: tuple[tuple[int, ...], ...], dtype: str) -> list[Any]:
    random = np.random.default_rng(5)
    values = [random.normal(size=shape) * 3 + 1j * random.normal(size=shape) for shape in shapes]
    return [value.astype(dtype) if np.dtype(dtype).kind == "c" else value.real.astype(dtype) for value in values]


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128", "int64", "int32"])
@pytest.mark.parametrize(("formula", "shapes"), CASES, ids=[formula for formula, _ in CASES])
def test_einsum_agrees_with_numpy(formula: str, shapes: tuple[tuple[int, ...], ...], dtype: str) -> None:
    arrays = drawn(shapes, dtype)
    found, expected = fc.einsum(formula, *map(fc.asarray, arrays)).numpy(), np.asarray(np.einsum(formula, *arrays))
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    tolerance = 1e-10 if expected.dtype.itemsize > 8 or dtype == "float64" else 1e-3
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_einsum_of_truth_is_whether_some_product_is_true() -> None:
    a, b = np.array([[True, False], [False, False]]), np.array([[True, True], [True, False]])
    np.testing.assert_array_equal(fc.einsum("ij,jk->ik", a, b).numpy(), np.einsum("ij,jk->ik", a, b))


def everywhere(formula: str, shapes: tuple[tuple[int, ...], ...]) -> bool:
    arrays = drawn(shapes, "complex128")
    expected = np.einsum(formula, *arrays)
    line, grid = fc.Placement(3), fc.Placement([[0, 1], [2, 3]])
    for axis in range(max(map(len, shapes))):
        for placement, sbp in ((line, fc.S(axis)), (line, fc.P), (grid, (fc.P, fc.S(axis)))):
            if fc.rank() in placement.ranks:
                fits = [len(shape) > axis or sbp == fc.P for shape in shapes]
                laid = [
                    fc.asarray(x, placement=placement, sbp=sbp if fit else "B")
                    for x, fit in zip(arrays, fits, strict=True)
                ]
                np.testing.assert_allclose(fc.einsum(formula, *laid).numpy(), expected, rtol=1e-9, atol=1e-9)
    return True


@pytest.mark.parametrize(("formula", "shapes"), CASES, ids=[formula for formula, _ in CASES])
def test_einsum_is_the_same_on_every_placement(formula: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    assert all(run(everywhere, ranks=4, args=(formula, shapes)))


@pytest.mark.parametrize("formula", ["iij,jk,k...->i...", "ij,kj,kl->", "ij,i->ji"])
def test_gradients_agree_with_differences(formula: str) -> None:
    shapes = {
        "iij,jk,k...->i...": ((3, 3, 4), (4, 2), (2, 5)),
        "ij,kj,kl->": ((3, 1), (2, 4), (2, 3)),
        "ij,i->ji": ((3, 4), (3,)),
    }
    arrays, directions, step = drawn(shapes[formula], "complex128"), drawn(shapes[formula], "complex128")[::-1], 1e-6
    directions = [np.resize(d, x.shape) for d, x in zip(directions, arrays, strict=True)]

    def loss(*x: Any) -> Any:
        return fc.sum(fc.abs(fc.einsum(formula, *x)) ** 2.0)

    gradients = fc.grad(loss, tuple(range(len(arrays))))(*map(fc.asarray, arrays))
    slope = sum(np.vdot(d, g.numpy()).real for d, g in zip(directions, gradients, strict=True))
    ahead, behind = (
        loss(*(fc.asarray(x + sign * step * d) for x, d in zip(arrays, directions, strict=True))).item()
        for sign in (1, -1)
    )
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-6)


def test_operands_are_contracted_in_the_cheapest_order() -> None:
    lengths = (("a", 100), ("b", 100), ("c", 100), ("d", 1))
    assert _tree(("ab", "bc", "cd"), "ad", lengths) == (0, (1, 2))
    many = tuple("abcdefghijkl"[i : i + 2] for i in range(11))
    lengths = tuple((letter, 2 if letter == "l" else 50) for letter in "abcdefghijkl")
    assert _tree(many, "al", lengths)[0] == 0  # type: ignore[index]


@pytest.mark.parametrize(
    ("formula", "shapes", "text"),
    [
        ("ij,jk", ((3, 4),), "give one term for each"),
        ("ij", ((3,),), "does not name all of it"),
        ("i", ((3, 4),), "does not name all of it"),
        ("ij,jk", ((3, 4), (5, 6)), "a letter has two lengths"),
        ("ii", ((3, 4),), "a letter has two lengths"),
        ("ii", ((1, 4),), "a letter has two lengths"),
        ("i->ij", ((3,),), "the result needs letters of the operands"),
        ("i->ii", ((3,),), "each once"),
        ("i.->i", ((3,),), "write terms of letters"),
        ("i1->i", ((3, 2),), "write terms of letters"),
        ("...i...->i", ((3, 2),), "write terms of letters"),
    ],
)
def test_what_a_formula_cannot_mean_is_named(formula: str, shapes: tuple[tuple[int, ...], ...], text: str) -> None:
    with pytest.raises(fc.ShapeError, match=text):
        fc.einsum(formula, *(fc.ones(shape) for shape in shapes))
