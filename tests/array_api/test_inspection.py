"""Dtypes and what they become, the namespace's account of itself, Python scalars, and operators in all forms."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.errors import DTypeError, ShapeError, VersionError
from tests.array_api.names import DTYPES

INTEGERS, FLOATS, COMPLEX = DTYPES[1:9], DTYPES[9:11], DTYPES[11:]


def arrays(*names: str) -> list[Any]:
    return [fc.ones(2, dtype=name) for name in names]


@pytest.mark.parametrize("kinds", [INTEGERS, FLOATS, COMPLEX], ids=["integers", "floats", "complex"])
def test_promotion_within_a_kind_is_numpys(kinds: tuple[str, ...]) -> None:
    for first in kinds:
        for second in kinds:
            expected = np.result_type(first, second)
            if expected.kind == "f" and kinds == INTEGERS:
                with pytest.raises(DTypeError, match="no common integer dtype"):
                    fc.result_type(first, second)
                with pytest.raises(DTypeError):
                    operator.add(*arrays(first, second))
            else:
                assert fc.result_type(first, second) == expected
                assert operator.add(*arrays(first, second)).dtype == expected


def test_beside_floats_integers_take_the_floats_dtype() -> None:
    for name in (*FLOATS, *COMPLEX):
        assert fc.result_type("int64", name) == name
        assert operator.mul(*arrays("int64", name)).dtype == name


@pytest.mark.parametrize("name", DTYPES[1:])
def test_python_scalars_take_the_dtype_beside_them(name: str) -> None:
    x = fc.ones(2, dtype=name)
    kind = x.dtype.kind
    assert (x + 1).dtype == (1 + x).dtype == name
    assert fc.result_type(x, 1) == name
    if kind in "fc":
        assert (x * 2.5).dtype == name
    if kind == "c":
        assert (x + 1j).dtype == name
    elif kind in "iu":
        assert (x + 2.5).dtype == "float32"
        with pytest.raises(DTypeError, match="does not fit"):
            x + 2**70


def test_limits_of_dtypes_are_python_numbers() -> None:
    for name in (*FLOATS, *COMPLEX):
        found, expected = fc.finfo(getattr(fc, name)), np.finfo(name)
        assert (found.bits, found.eps, found.max, found.min) == (
            expected.bits,
            expected.eps,
            expected.max,
            expected.min,
        )
        assert found.smallest_normal == expected.smallest_normal and type(found.max) is float
        assert found.dtype == expected.dtype
    for name in INTEGERS:
        limits, known = fc.iinfo(fc.ones(1, dtype=name)), np.iinfo(name)
        assert (limits.bits, limits.max, limits.min, limits.dtype) == (known.bits, known.max, known.min, name)
    with pytest.raises(DTypeError):
        fc.finfo(fc.int8)
    with pytest.raises(DTypeError):
        fc.iinfo(fc.float32)


def test_dtypes_know_their_kinds() -> None:
    for name in DTYPES:
        for kind in (
            "bool",
            "signed integer",
            "unsigned integer",
            "integral",
            "real floating",
            "complex floating",
            "numeric",
        ):
            assert fc.isdtype(getattr(fc, name), kind) == np.isdtype(np.dtype(name), kind)
    assert fc.isdtype(fc.int8, (fc.int16, "signed integer")) and not fc.isdtype(fc.int8, fc.int16)
    with pytest.raises(DTypeError, match="unknown kind"):
        fc.isdtype(fc.int8, "whole")


def test_can_cast_follows_promotion() -> None:
    for first in DTYPES:
        for second in DTYPES:
            assert fc.can_cast(first, second) == np.can_cast(first, second)
    assert fc.can_cast(fc.ones(1), fc.float64)


def test_the_namespace_gives_an_account_of_itself() -> None:
    info, x = fc.__array_namespace_info__(), fc.ones(3)
    assert fc.__array_api_version__ == "2024.12" and x.__array_namespace__() is fc
    assert x.__array_namespace__(api_version="2023.12") is fc
    with pytest.raises(VersionError):
        x.__array_namespace__(api_version="1999.12")
    assert info.capabilities() == {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 26}
    assert info.default_device() in info.devices() and x.device == info.default_device()
    assert info.default_dtypes() == {
        "real floating": fc.asarray(1.0).dtype,
        "complex floating": fc.asarray(1j).dtype,
        "integral": fc.asarray(1).dtype,
        "indexing": fc.argmax(x).dtype,
    }
    assert set(info.dtypes()) == set(DTYPES) and set(info.dtypes(kind="integral")) == set(INTEGERS)
    assert fc.empty(3, device=x.device).device == x.device and x.to_device(x.device).device == x.device
    with pytest.raises(fc.PlacementError, match="not available"):
        fc.ones(3, device="tpu")
    with pytest.raises(ShapeError, match="26"):
        fc.exp(fc.reshape(x, (3, *(1,) * 26)))


def test_shapes_broadcast() -> None:
    assert fc.broadcast_shapes((5, 1), (1, 7), ()) == (5, 7)
    with pytest.raises(ShapeError):
        fc.broadcast_shapes((5,), (4,))


FORMS = [
    ("add", 3), ("sub", 3), ("mul", 3), ("truediv", 2.0), ("floordiv", 3), ("mod", 3), ("pow", 2), ("and", 3),
    ("or", 3), ("xor", 3), ("lshift", 2), ("rshift", 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "other"), FORMS)
def test_operators_have_reflected_and_in_place_forms(name: str, other: Any) -> None:
    x = np.array([1, 5, 2]) if isinstance(other, int) else np.array([1.0, 5.0, 2.0])
    forward = getattr(operator, f"{name}_" if name in ("and", "or") else name)
    np.testing.assert_array_equal(forward(fc.asarray(x), other).numpy(), forward(x, other))
    np.testing.assert_array_equal(forward(other, fc.asarray(x)).numpy(), forward(other, x))
    np.testing.assert_array_equal(forward(x, fc.asarray(x)).numpy(), forward(x, x))
    tensor = before = fc.asarray(x)
    tensor = getattr(operator, f"i{name}")(tensor, other)
    np.testing.assert_array_equal(tensor.numpy(), forward(x, other))
    np.testing.assert_array_equal(before.numpy(), x)


def test_in_place_operators_keep_shape_and_dtype() -> None:
    x = fc.ones(3, dtype="int32")
    with pytest.raises(DTypeError, match="in place"):
        x += 2.5
    with pytest.raises(ShapeError, match="in place"):
        x += fc.ones((2, 3), dtype="int32")


def test_operators_leave_strangers_to_themselves() -> None:
    class Stranger:
        def __radd__(self, other: Any) -> str:
            return "mine"

    assert fc.ones(2) + Stranger() == "mine"
    assert (fc.ones(2) == "text") is False
    with pytest.raises(TypeError):
        fc.ones(2) + object()


def test_tensors_of_one_element_become_python_numbers() -> None:
    assert int(fc.asarray(3)) == 3 and float(fc.asarray(2.5)) == 2.5 and complex(fc.asarray(1j)) == 1j
    assert bool(fc.asarray(True)) and range(fc.asarray(3)) == range(3) and [10, 20][fc.asarray(1)] == 20
    for convert, value in ((float, 1j), (int, 1j), (operator.index, 2.0), (operator.index, True)):
        with pytest.raises(TypeError):
            convert(fc.asarray(value))
    with pytest.raises(ShapeError):
        float(fc.ones(2))


def test_numbers_that_a_dtype_does_not_have_are_errors() -> None:
    for value, dtype in ((1.5, "int64"), (300, "uint8"), (-1, "uint64"), (1j, "float32"), (float("nan"), "int32")):
        with pytest.raises(DTypeError, match="does not fit"):
            fc.full(2, value, dtype=dtype)
    with pytest.raises(DTypeError, match="imaginary"):
        fc.astype(fc.asarray(1j), "float32")
    with pytest.raises(DTypeError, match="no such power"):
        fc.asarray([2]) ** -1


def test_a_value_under_another_name_is_its_own() -> None:
    x = fc.asarray([1, 2, 3])
    others = [+x, fc.floor(x), fc.clip(x), fc.astype(x, x.dtype), fc.asarray(x, copy=True), fc.roll(x, 0)]
    for other in others:
        other[0] = 9
    assert x.numpy().tolist() == [1, 2, 3] and fc.asarray(x) is x and fc.astype(x, x.dtype, copy=False) is x


def test_a_constant_of_nan_is_compiled_once() -> None:
    from flowcore.world import current

    for _ in range(3):
        fc.full(2, float("nan"))
    before = len(current().eager)
    fc.full(2, float("nan"))
    assert len(current().eager) == before
    x = fc.ones(2)
    for value in (0.0, -0.0, 0, False):
        assert fc.signbit(x * value).numpy().tolist() == [str(value) == "-0.0"] * 2
    assert fc.signbit(fc.full((), -0.0)).item() and not fc.signbit(fc.full((), 0.0)).item()


def test_what_never_repeats_itself_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from flowcore.world import Recent, current

    monkeypatch.setattr(Recent, "MOST", 20)
    x = fc.ones(3)
    for step in range(100):
        assert (x * float(step)).numpy().tolist() == [float(step)] * 3
    assert len(current().eager) <= 20 and len(current().constants) <= 20
