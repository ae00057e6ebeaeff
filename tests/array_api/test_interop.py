"""Tensors in other hands: numpy, DLPack, pickles, copies; and other libraries' arrays as arguments."""

from __future__ import annotations

import array
import copy
import pickle
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.errors import CopyError, GradError, PlacementError

X = np.arange(12.0).reshape(3, 4)


def two(f: Any) -> list[Any]:
    return fc.launch.run(f, ranks=2, transport="threads")


def test_dlpack_shares_memory_both_ways() -> None:
    x = fc.asarray(X)
    seen = np.from_dlpack(x)
    assert np.shares_memory(seen, x.block) and not seen.flags.writeable
    source = X.copy()
    taken = fc.from_dlpack(source)
    assert np.shares_memory(taken.block, source) and taken.dtype == X.dtype
    copied = fc.from_dlpack(source, copy=True)
    assert not np.shares_memory(copied.block, source)
    assert x.__dlpack_device__() == (1, 0)
    for dtype in ("bool", "int8", "uint64", "complex64"):
        np.testing.assert_array_equal(np.from_dlpack(fc.asarray(X.astype(dtype))), X.astype(dtype))
    with pytest.raises(BufferError, match="main memory"):
        x.__dlpack__(dl_device=(2, 0))
    with pytest.raises(CopyError, match="no __dlpack__"):
        fc.from_dlpack([1, 2])


class Reader:
    """What the capsule of a tensor made under `options` tells."""

    def __init__(self, x: fc.Tensor, **options: Any) -> None:
        self.x, self.options = x, options

    def __dlpack__(self, **asked: Any) -> Any:
        return self.x.__dlpack__(**self.options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.x.__dlpack_device__()


@pytest.mark.parametrize("version", [None, (0, 8), (1, 0), (2, 0)])
@pytest.mark.parametrize("copy", [None, True, False])
def test_dlpack_serves_readers_of_every_version(version: tuple[int, int] | None, copy: bool | None) -> None:
    x = fc.asarray(X)
    for device in (None, (1, 0)):
        seen = np.from_dlpack(Reader(x, copy=copy, max_version=version, dl_device=device))
        np.testing.assert_array_equal(seen, X)
        assert np.shares_memory(seen, x.block) == (not copy)
    repeated = fc.broadcast_to(x, (2, 3, 4))
    if copy is False and (version is None or version < (1, 0)):
        with pytest.raises(BufferError, match="only to be read"):
            repeated.__dlpack__(copy=copy, max_version=version)
    else:
        seen = np.from_dlpack(Reader(repeated, copy=copy, max_version=version))
        np.testing.assert_array_equal(seen, np.broadcast_to(X, (2, 3, 4)))


@pytest.mark.parametrize("library", ["torch", "jax.numpy"])
def test_dlpack_with_other_libraries(library: str) -> None:
    other = pytest.importorskip(library)
    theirs = other.asarray(X.astype(np.float32))
    taken = fc.from_dlpack(theirs)
    assert np.shares_memory(taken.block, np.from_dlpack(theirs))
    np.testing.assert_array_equal(taken.numpy(), X.astype(np.float32))
    np.testing.assert_array_equal(np.asarray(other.from_dlpack(fc.asarray(X.astype(np.float32)))), X.astype(np.float32))


def test_a_split_tensor_is_exported_whole_on_every_rank() -> None:
    def body() -> Any:
        x = fc.asarray(X, sbp=fc.S(0))
        return np.from_dlpack(x), np.asarray(x), np.exp(x), fc.from_dlpack(X, sbp=fc.S(1)).to_local()

    for rank, (exported, whole, power, block) in enumerate(two(body)):
        np.testing.assert_array_equal(exported, X)
        np.testing.assert_array_equal(whole, X)
        np.testing.assert_array_equal(power, np.exp(X))
        np.testing.assert_array_equal(block, X[:, 2 * rank : 2 * rank + 2])


def test_asarray_copies_unless_it_may_not() -> None:
    source = X.copy()
    shared, own = fc.asarray(source, copy=False), fc.asarray(source)
    source[0, 0] = 7
    assert shared[0, 0].item() == 7 and own[0, 0].item() == 0
    for bad in ([1.0, 2.0], 3.0):
        with pytest.raises(ValueError, match="copy"):
            fc.asarray(bad, copy=False)
    with pytest.raises(CopyError):
        fc.asarray(source, dtype="float32", copy=False)
    with pytest.raises(CopyError):
        fc.asarray(own, dtype="float32", copy=False)
    with pytest.raises(CopyError):
        np.asarray(own, dtype="float32", copy=False)
    assert np.shares_memory(np.asarray(own, copy=False), own.block)


def test_functions_of_numpy_give_arrays() -> None:
    def body() -> Any:
        x = fc.asarray(X, sbp=fc.S(1))
        known = fc.compile(lambda x: x * np.ndim(x))(x).numpy()
        return np.sum(x, axis=0), np.concatenate([x, X]), np.exp(x), np.shape(x), known

    for total, both, power, shape, known in two(body):
        np.testing.assert_array_equal(total, X.sum(axis=0))
        np.testing.assert_array_equal(both, np.concatenate([X, X]))
        np.testing.assert_array_equal(power, np.exp(X))
        assert shape == X.shape
        np.testing.assert_array_equal(known, 2 * X)
    x = fc.asarray(X)
    np.testing.assert_array_equal((x + 1j * x).imag.numpy(), X)
    with pytest.raises(ValueError, match="read-only"):
        np.copyto(x, 0)


class Stubborn:
    """An array of a library that does not give its values away."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise RuntimeError("detach it first")

    __dlpack__ = __array__

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def test_what_another_library_refuses_is_a_typed_error() -> None:
    for take in (fc.asarray, fc.from_dlpack, fc.exp):
        with pytest.raises(fc.FlowcoreError):
            take(Stubborn())


def test_asarray_takes_buffers_and_nested_tensors() -> None:
    assert fc.asarray(array.array("d", [1.0, 2.0])).dtype == "float64"
    assert fc.asarray(memoryview(b"ab")).numpy().tolist() == [97, 98]
    nested = fc.asarray([[fc.asarray(1.0), 2.0], [3.0, fc.asarray(4.0)]])
    assert nested.numpy().tolist() == [[1.0, 2.0], [3.0, 4.0]] and nested.dtype == "float32"
    (gradient,) = fc.vjp(lambda x: fc.asarray([x, 2 * x]), fc.asarray(1.0))[1](fc.ones(2))
    assert gradient.item() == 3


def test_functions_take_arrays_of_numpy() -> None:
    np.testing.assert_array_equal((X + fc.asarray(X)).numpy(), 2 * X)
    np.testing.assert_array_equal(fc.matmul(X, X.T).numpy(), X @ X.T)
    np.testing.assert_array_equal((np.float64(2) * fc.asarray(X)).numpy(), 2 * X)
    np.testing.assert_array_equal(fc.grad(lambda x: (x * x).sum())(X).numpy(), 2 * X)
    np.testing.assert_array_equal(fc.vjp(lambda x: x * x, X)[1](X)[0].numpy(), 2 * X * X)
    np.testing.assert_array_equal(fc.jvp(lambda x: x * x, (X,), (X,))[1].numpy(), 2 * X * X)
    np.testing.assert_array_equal(fc.hessian(lambda x: (x * x).sum())(X[0]).numpy(), 2 * np.eye(4))
    np.testing.assert_array_equal(fc.vmap(lambda x: x.sum())(X).numpy(), X.sum(axis=1))
    assert fc.grad(lambda x: x**3)(2.0).item() == 12
    with pytest.raises(GradError):
        fc.grad(lambda x: x * 1.0)(2)


def test_compiled_functions_take_arrays_of_numpy_as_inputs() -> None:
    traced = []

    @fc.compile
    def double(x: Any, more: dict[str, Any]) -> Any:
        traced.append(x)
        return 2 * x + more["bias"]

    for scale in (1.0, 2.0):
        np.testing.assert_array_equal(double(scale * X, {"bias": X}).numpy(), 2 * scale * X + X)
    assert len(traced) == 1


def test_pickles_come_back_on_the_same_rank() -> None:
    x = fc.asarray(X).requires_grad_()
    back = pickle.loads(pickle.dumps(x))
    np.testing.assert_array_equal(back.numpy(), X)
    assert back.requires_grad and back.sbp == x.sbp and back.placement == x.placement
    parameter = pickle.loads(pickle.dumps(fc.nn.Parameter(X)))
    assert type(parameter) is fc.nn.Parameter

    def body() -> Any:
        x = fc.asarray(X, sbp=fc.S(0))
        back = pickle.loads(pickle.dumps(x))
        np.testing.assert_array_equal(back.numpy(), X)
        return pickle.dumps(x), pickle.dumps(fc.asarray(X))

    (first, whole), (second, _) = two(body)
    with pytest.raises(PlacementError, match="has rank 1"):
        pickle.loads(first)

    def other() -> Any:
        wrong = second if fc.rank() == 0 else first
        with pytest.raises(PlacementError, match="which holds another"):
            pickle.loads(wrong)
        return pickle.loads(whole).numpy()

    for found in two(other):
        np.testing.assert_array_equal(found, X)


def test_copies_are_of_the_same_class_and_apart() -> None:
    x = fc.nn.Parameter(X)
    (x * x).sum().backward()
    for made in (copy.copy(x), copy.deepcopy(x)):
        assert type(made) is fc.nn.Parameter and made.requires_grad
        np.testing.assert_array_equal(made.grad.numpy(), 2 * X)
        made.assign(fc.zeros((3, 4), dtype="float64"))
    np.testing.assert_array_equal(x.numpy(), X)
    with pytest.raises(GradError, match="detach"):
        copy.deepcopy(x * 2)
    module = copy.deepcopy(fc.nn.Linear(3, 2))
    assert all(isinstance(parameter, fc.nn.Parameter) for parameter in module.parameters())


def test_a_tensor_prints_on_one_rank_alone() -> None:
    def body() -> str:
        x = fc.asarray(X, sbp=fc.S(0))
        return repr(x) if fc.rank() == 0 else ""

    shown = two(body)[0]
    for part in ("shape=(3, 4)", "float64", "S0", "of this rank", "[0 1|x=2]"):
        assert part in shown


def test_tensors_are_iterated_by_rows() -> None:
    assert [row.numpy().tolist() for row in fc.asarray(X)] == X.tolist()
