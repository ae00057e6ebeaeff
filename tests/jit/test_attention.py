"""Compiled attention equals that of numpy: all shapes, shared heads, heads behind rows, special values, both ways."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.jit.library import has_gemm
from flowcore.jit.store import is_available
from flowcore.jit.table import call
from flowcore.local import localize
from flowcore.op import Type, as_tuple
from flowcore.ops import attention_launch
from flowcore.ops.attention import Attention, AttentionGrad, AttentionLike
from flowcore.passes.transposes import fold_transposes
from flowcore.passes.widen import widen

needs_kernels = pytest.mark.skipif(
    not (is_available() and has_gemm()), reason="numba, or a BLAS of numpy's that is known, is not installed"
)
Array = np.ndarray[Any, Any]
SHAPES = {
    "one": ((1, 1), (1, 1), (1, 1)),
    "no leading dimensions": ((70, 3), (90, 3), (90, 5)),
    "several": ((2, 3, 33, 4), (2, 3, 64, 4), (2, 3, 64, 4)),
    "heads share": ((2, 4, 40, 8), (2, 1, 40, 8), (2, 1, 40, 2)),
    "all share": ((2, 4, 7, 8), (1, 1, 200, 8), (1, 1, 200, 2)),
}
SEEN = {"all": (False, 0), "causal": (True, 0), "from a later query": (True, 9), "some see none": (True, -3)}


def _made(op: AttentionLike, arrays: list[Array]) -> list[Array]:
    """What the compiled kernel of `op` gives, in scratch full of nan."""
    types = [Type(array.shape, array.dtype) for array in arrays]
    launch, made = op.launch(types), op.infer(*types)
    assert launch is not None
    found = [np.full(type.shape, 7, type.dtype) for type in made]
    scratch = [np.full(size, np.nan, arrays[0].dtype) for size in launch.scratch]
    assert call(launch.kernel, launch.numbers, [*arrays, *found, *scratch]) == 0
    return found


def run(op: AttentionLike, arrays: list[Array]) -> None:
    """Assert that both kernels of `op` agree on `arrays`."""
    found = _made(op, arrays)
    with np.errstate(all="ignore"):
        expected = as_tuple(op.kernel(*arrays))
    tolerance = 2e-5 if arrays[0].dtype == np.float32 else 1e-12
    for result, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=tolerance, atol=tolerance)


def both(shapes: tuple[tuple[int, ...], ...], dtype: str, *options: Any) -> list[tuple[AttentionLike, list[Array]]]:
    """Attention and its gradient, with arrays for them."""
    draw = np.random.default_rng(0)
    arrays = [draw.normal(size=shape).astype(dtype) for shape in shapes]
    (y,) = Attention(*options).infer(*(Type(array.shape, array.dtype) for array in arrays))
    dy = draw.normal(size=y.shape).astype(dtype)
    return [(Attention(*options), arrays), (AttentionGrad(*options), [*arrays, dy])]


@needs_kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("name", SHAPES)
def test_compiled_attention_is_that_of_numpy(name: str, seen: str, dtype: str) -> None:
    for op, arrays in both(SHAPES[name], dtype, 0.4, *SEEN[seen]):
        run(op, arrays)
        if arrays[0].ndim > 2:
            turned = [np.ascontiguousarray(array.swapaxes(-2, -3)) for array in arrays]
            run(replace(op, is_turned=True), turned)


@needs_kernels
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, 1e-40])
def test_special_values_give_what_numpy_gives(value: float) -> None:
    for op, arrays in both(((2, 9, 4), (2, 9, 4), (2, 9, 4)), "float32", 1.0, True):
        arrays[0][0, 3, 1] = value
        run(op, arrays)


@needs_kernels
def test_scratch_has_room_for_as_many_keys_as_the_kernels_count() -> None:
    from flowcore.jit import attention

    assert attention_launch.WIDTH == attention.WIDTH


@needs_kernels
def test_keys_that_nobody_sees_do_not_matter_whatever_they_hold() -> None:
    for op, arrays in both(((1, 9, 4), (1, 12, 4), (1, 12, 4)), "float32", 1.0, True):
        whole = [array.copy() for array in arrays]
        for array in whole[1:3]:
            array[:, 9:] = np.nan
        for found, wanted in zip(_made(op, whole), _made(op, arrays), strict=True):
            np.testing.assert_array_equal(found[:, :9], wanted[:, :9])


def test_what_the_kernels_do_not_compute_is_left_to_numpy() -> None:
    float32 = np.dtype("float32")
    mask = Type((1, 4), np.dtype(bool))
    types = [Type(shape, float32) for shape in ((5, 3), (4, 3), (4, 2))]
    assert Attention(1.0, False).launch([*types, mask]) is None
    assert Attention(1.0, False).launch([Type((0, 3), float32), *types[1:]]) is None
    crossed = [Type(shape, float32) for shape in ((3, 1, 2, 5, 2), (1, 2, 2, 4, 2), (3, 2, 1, 4, 3))]
    assert Attention(1.0, False).launch(crossed) is None


def heads(x: fc.Tensor, weights: fc.Tensor) -> fc.Tensor:
    """A sum of what attention of the heads of `x`, and a projection, give."""
    batch, time, width = x.shape
    q, k, v = (fc.permute_dims((x @ w).reshape((batch, time, 2, width // 2)), (0, 2, 1, 3)) for w in weights)
    y = fc.nn.scaled_dot_product_attention(q, k, v, is_causal=True)
    return (fc.permute_dims(y, (0, 2, 1, 3)).reshape((batch, time, width)) ** 2).sum()


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_heads_behind_rows_are_read_and_written_where_they_lie(dtype: str) -> None:
    draw = np.random.default_rng(0)
    x, weights = (fc.asarray(draw.normal(size=shape).astype(dtype)) for shape in ((3, 5, 8), (3, 8, 8)))
    step = fc.compile(fc.grad(heads, argnums=(0, 1)))
    graph = fold_transposes(widen(localize(step.plan(x, weights).graph, 0)))
    ops = [node.op for node in graph.nodes]
    assert [op.is_turned for op in ops if isinstance(op, AttentionLike)] == [True, True]
    assert [op.name for op in ops].count("permute") == 0
    for found, expected in zip(step(x, weights), fc.grad(heads, argnums=(0, 1))(x, weights), strict=True):
        assert found.dtype == dtype
        tolerance = {"float64": 1e-10, "float16": 2e-2}[dtype]
        scale = float(np.abs(expected.numpy()).max())
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=tolerance, atol=tolerance * scale)
