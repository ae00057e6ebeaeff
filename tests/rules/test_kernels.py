"""Kernels give what `infer` promises, and the right numbers where these are known from elsewhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import flowcore  # noqa: F401  # fills the registry
from flowcore.boxing_op import LAYOUT_OPERATORS
from flowcore.errors import DTypeError, ShapeError
from flowcore.op import OPS, Sample, Type, as_tuple
from flowcore.op_text import parse_op
from flowcore.ops.contract import Contract, grouping
from flowcore.ops.create import Arange, Full
from flowcore.ops.elementwise import Elementwise
from flowcore.ops.erf import erf_array
from flowcore.ops.gather import Take
from flowcore.ops.philox import philox
from flowcore.ops.random import Bits, Normal, Uniform, runs
from flowcore.ops.reduce import Max, Min, Sum
from flowcore.ops.scatter import ScatterAdd
from flowcore.ops.slices import Slice
from flowcore.placement.signature import parse_equation
from flowcore.signatures import nd_signatures
from flowcore.simulate import inputs_of, random_of, samples

SAMPLES = list(samples(OPS, LAYOUT_OPERATORS))
SHOWN = [f"{sample.op.name}-{number}" for number, sample in enumerate(SAMPLES)]
FLOAT64, INT64 = np.dtype("float64"), np.dtype("int64")


@pytest.mark.parametrize("sample", SAMPLES, ids=SHOWN)
def test_kernels_give_the_inferred_shape_and_dtype(sample: Sample) -> None:
    with np.errstate(all="ignore"):
        results = as_tuple(sample.op.kernel(*inputs_of(sample, random_of(sample))))
    found = tuple(Type(np.shape(result), np.asarray(result).dtype) for result in results)
    assert found == sample.op.infer(*sample.types)


@pytest.mark.parametrize("sample", SAMPLES, ids=SHOWN)
def test_kernels_leave_their_inputs_alone(sample: Sample) -> None:
    arrays = inputs_of(sample, random_of(sample))
    for array in arrays:
        array.flags.writeable = False
    with np.errstate(all="ignore"):
        sample.op.kernel(*arrays)


@pytest.mark.parametrize("sample", SAMPLES, ids=SHOWN)
def test_operators_read_back_from_their_text(sample: Sample) -> None:
    assert parse_op(sample.op.text()) == sample.op


@pytest.mark.parametrize("sample", SAMPLES, ids=SHOWN)
def test_the_batched_operator_does_for_each_what_the_operator_does_for_one(sample: Sample) -> None:
    op, types, size = sample.op, sample.types, 3
    if not types:
        return
    draws = [inputs_of(sample, random_of(sample, number)) for number in range(size)]
    flag_sets = {(True,) * len(types), *(tuple(i == j for j in range(len(types))) for i in range(len(types)))}
    ndim = max(type.ndim for type in types)
    elementwise = isinstance(op, Elementwise)
    for flags in sorted(flag_sets):
        batched = op.batched(flags, size, types)
        if batched is None:
            assert not all(flags)
            continue
        given = []
        for place, flag in enumerate(flags):
            each = [draw[place] if flag else draws[0][place] for draw in draws]
            if elementwise:  # operands are padded to one rank before the new axis is put in front
                each = [one.reshape((1,) * (ndim - one.ndim) + one.shape) for one in each]
            given.append(np.stack(each) if flag else each[0])
        with np.errstate(all="ignore"):
            found = as_tuple(batched.kernel(*given))
            one_by_one = [
                as_tuple(op.kernel(*(draw[place] if flag else draws[0][place] for place, flag in enumerate(flags))))
                for draw in draws
            ]
        for result, expected in zip(found, zip(*one_by_one, strict=True), strict=True):
            np.testing.assert_allclose(result, np.stack(expected), rtol=1e-6, atol=1e-6)
        inferred = batched.infer(*(Type(array.shape, array.dtype) for array in given))
        assert inferred == tuple(Type(np.shape(result), np.asarray(result).dtype) for result in found)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    c0, c1, c2, c3 = (np.array([word], np.uint64) for word in counter)
    assert tuple(philox((c0, c1, c2, c3), key)[0].tolist()) == words


def test_runs_are_the_flat_indices_of_a_box() -> None:
    for shape, offset in (
        ((3, 2, 4), (1, 2, 0)),
        ((2, 5, 3), (0, 0, 1)),
        ((2, 5, 4), (1, 0, 0)),
        ((1, 1, 1), (2, 3, 3)),
    ):
        logical = (4, 5, 4)
        bases, run = runs(shape, offset, logical)
        box = tuple(slice(start, start + length) for start, length in zip(offset, shape, strict=True))
        expected = np.arange(80).reshape(logical)[box].ravel()
        np.testing.assert_array_equal((bases[:, None] + np.arange(run)).ravel(), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_numbers_have_the_moments_of_their_distribution(dtype: str) -> None:
    key = np.array([7, 3])
    uniform, normal = Uniform((300, 700), dtype).kernel(key), Normal((300, 700), dtype).kernel(key)
    assert uniform.min() >= 0 and uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 3e-3 and abs(uniform.var() - 1 / 12) < 1e-3
    assert abs(normal.mean()) < 1e-2 and abs(normal.var() - 1) < 1e-2 and abs((normal**4).mean() - 3) < 0.1
    assert abs((normal[:, 0::2] * normal[:, 1::2]).mean()) < 1e-2


def test_draws_of_other_counters_and_seeds_differ() -> None:
    drawn = [Bits((100,), "uint64").kernel(np.array(key)) for key in ((1, 0), (1, 1), (2, 0), (2**40 + 1, 0))]
    assert len(np.unique(np.concatenate(drawn))) == 400


def test_erf_agrees_with_the_library_of_c() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20001), [0.0, 0.46875, 4.0, 1e-300, 1e-8]])
    expected = np.array([math.erf(value) for value in x])
    np.testing.assert_allclose(erf_array(x), expected, rtol=1e-15, atol=0)
    single = erf_array(x.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, [math.erf(value) for value in x.astype(np.float32)], rtol=5e-7, atol=1e-30)
    np.testing.assert_array_equal(erf_array(np.array([np.inf, -np.inf])), [1, -1])
    assert np.isnan(erf_array(np.array([np.nan]))[0])


@pytest.mark.parametrize(
    ("op", "dtype", "identity"),
    [
        (Sum((0,)), "float64", 0.0), (Max((0,)), "float64", -np.inf), (Min((0,)), "float64", np.inf),
        (Max((0,)), "int32", -(2**31)), (Min((0,)), "int32", 2**31 - 1), (Max((0,)), "bool", False),
        (Min((0,)), "bool", True),
    ],
)  # fmt: skip
def test_reductions_of_an_empty_block_give_the_identity(op: Any, dtype: str, identity: Any) -> None:
    np.testing.assert_array_equal(op.kernel(np.zeros((0, 3), dtype)), np.full(3, identity))


def test_the_max_of_nothing_is_an_error() -> None:
    with pytest.raises(ShapeError, match="there is no element"):
        Max((0,)).infer(Type((0, 3), FLOAT64))


@pytest.mark.parametrize("formula", ["bmk,kn->bmn", "mk,kn->nm", "abcd,bdef->acef", "hqd,hkd->qhk", "ab,cb->ca"])
def test_contractions_agree_with_einsum(formula: str) -> None:
    lengths = dict(zip("abcdefhkmnq", range(2, 20), strict=False))
    random = np.random.default_rng(0)
    a, b = (random.normal(size=[lengths[letter] for letter in term]) for term in formula.split("->")[0].split(","))
    np.testing.assert_allclose(Contract(formula).kernel(a, b), np.einsum(formula, a, b), rtol=1e-10, atol=1e-10)


def test_plain_contractions_copy_nothing() -> None:
    a, b = np.ones((4, 3)), np.ones((5, 3))
    group = grouping(parse_equation("mk,nk->mn"))
    assert np.shares_memory(a.transpose(group.a), a) and np.shares_memory(b.transpose(group.b), b)
    assert group.is_plain and Contract("mk,nk->mn").kernel(a, b).flags.c_contiguous


def test_a_letter_in_one_term_only_is_an_error() -> None:
    with pytest.raises(ShapeError, match="stands in one term only"):
        Contract("mk,jn->mn").infer(Type((2, 3), FLOAT64), Type((3, 2), FLOAT64))


def test_take_counts_negative_indices_from_the_end_and_names_one_out_of_range() -> None:
    table = np.arange(10.0).reshape(5, 2)
    np.testing.assert_array_equal(Take(0).kernel(table, np.array([-1, 0])), table[[-1, 0]])
    with pytest.raises(ShapeError, match="index 5: the axis has 5 rows"):
        Take(0).kernel(table, np.array([1, 5]))
    with pytest.raises(ShapeError, match="index -6"):
        Take(0).kernel(table, np.array([-6]))


def test_scatter_add_agrees_with_add_at() -> None:
    random = np.random.default_rng(0)
    indices, rows = random.integers(-7, 7, (3, 5)), random.normal(size=(2, 3, 5, 4))
    expected = np.zeros((2, 7, 4))
    np.add.at(expected, (slice(None), indices), rows)
    np.testing.assert_allclose(ScatterAdd(1, 7).kernel(rows, indices), expected)


def test_slices_outside_the_tensor_are_an_error() -> None:
    with pytest.raises(ShapeError, match="indices must be in"):
        Slice((3,), (3,), (1,)).infer(Type((5,), FLOAT64))


def test_elementwise_errors_name_the_rule() -> None:
    with pytest.raises(ShapeError, match="counted from the right"):
        OPS["add"]().infer(Type((3, 4), FLOAT64), Type((5, 4), FLOAT64))
    with pytest.raises(DTypeError, match="cast with astype"):
        OPS["add"]().infer(Type((3,), FLOAT64), Type((3,), INT64))


def test_operators_with_infinite_attributes_read_back() -> None:
    for value in (math.inf, -math.inf):
        assert parse_op(Full((2,), value, "float32").text()) == Full((2,), value, "float32")
    assert math.isnan(parse_op(Full((2,), math.nan, "float32").text()).value)  # type: ignore[attr-defined]


def test_a_part_of_a_progression_is_bit_equal_to_the_whole() -> None:
    whole = Arange(0.1, 0.3, 100, "float32").kernel()
    np.testing.assert_array_equal(Arange(0.1, 0.3, 30, "float32", 50).kernel(), whole[50:80])


def test_the_signatures_of_a_matrix_product_on_a_mesh() -> None:
    choices = nd_signatures(Contract("mk,kn->mn"), (Type((501, 701), FLOAT64), Type((701, 401), FLOAT64)), (2, 2))
    assert len(choices) == 36
