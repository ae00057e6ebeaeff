"""Applies an operator to tensors: into the graph being traced, or at once as a graph of one node.

An eager operation goes through the very stages of a compiled function (plan, box, passes, lower); what they give is
kept by operator and input values, so that the second time costs a look-up.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast
from zlib import crc32

import numpy as np

from flowcore.boxing_op import Relayout
from flowcore.dtypes import NARROW, DType, as_dtype, is_float, is_real, scalar_dtype
from flowcore.errors import CopyError, DTypeError, FlowcoreError, PlacementError, ShapeError, TraceError
from flowcore.graph import Builder, Graph, Value, digest_of
from flowcore.op import FUNCTIONS, OPS, Array, Op, Type, function
from flowcore.pipeline import Program, build
from flowcore.placement.layout import Layout, Shape, kept, sbp_text
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import B, NdSbp, Partial, SbpLike, normalize
from flowcore.runtime import Carry
from flowcore.tensor import Record, Tensor, TensorLike
from flowcore.trace import common_placement, replica_move, result_values
from flowcore.world import World, current, where


@function
def apply(op: Op, *inputs: Tensor, layout: Layout | None = None) -> Any:
    """The result of `op` (a tuple where it has several), recorded for differentiation where an input requires it.

    `layout`: where the result of an operator without inputs lies.
    """
    world = current()
    is_recorded = False
    if world.is_grad_enabled:
        for tensor in inputs:
            if tensor._requires_grad:
                is_recorded = True
                break
    used = op.saving([tensor._requires_grad for tensor in inputs]) if is_recorded else op
    results = _eager(world, used, inputs, layout) if world.trace is None else world.trace.emit(used, inputs, layout)
    if is_recorded:
        record(world, used, inputs, results)
    if used is not op:
        results = results[: len(op.infer(*(tensor._value.type for tensor in inputs)))]
    return results[0] if len(results) == 1 else results


def _eager(world: World, op: Op, inputs: tuple[Tensor, ...], layout: Layout | None) -> tuple[Tensor, ...]:
    for tensor in inputs:
        if tensor.trace is not None:
            raise TraceError("a tensor of a traced function outlived it: return it from the function to use it outside")
    program = _program(world, op, inputs, layout)
    blocks = program.run(world, [tensor.block for tensor in inputs])
    return tuple([Tensor(value, block) for value, block in zip(program.results, blocks, strict=True)])


def _program(world: World, op: Op, inputs: tuple[Tensor, ...], layout: Layout | None) -> Program:
    """The program that `_one_node` makes, kept."""
    key = (op, layout, *[tensor._value for tensor in inputs])
    program: Program | None = world.eager.get(key)
    if program is None:
        program = cast(Program, world.eager.keep(key, _one_node(world, op, inputs, layout)))
    return program


def _one_node(world: World, op: Op, inputs: Sequence[Tensor], layout: Layout | None) -> Program:
    """The program of `op` alone on inputs such as these."""
    return build(single(op, [tensor._value for tensor in inputs], layout), world.rank, world.machine)


def single(op: Op, values: Sequence[Value], layout: Layout | None) -> Graph:
    """The graph that applies `op` to inputs of these values."""
    line = where()
    builder = Builder()
    numbers = [builder.input(value) for value in values]
    if not op.spans:
        target = common_placement(values, op, line)
        for position, value in enumerate(values):
            if target is not None and value.placement != target:
                move = replica_move(value.placement, target)
                (numbers[position],) = builder.node(move, [numbers[position]], result_values(move, [value], None), line)
    results = result_values(op, [builder.values[number] for number in numbers], layout)
    return builder.graph(builder.node(op, numbers, results, line))


def record(world: World, op: Op, inputs: tuple[Tensor, ...], results: tuple[Tensor, ...]) -> None:
    """Note how `results` came about, for differentiation."""
    if not any(is_float(result.dtype) for result in results):
        return
    world.sequence += 1
    made = Record(op, inputs, tuple([tensor.version for tensor in inputs]), results, world.sequence)
    for result in results:
        if is_float(result.dtype):
            result.record = made
            result._requires_grad = True


def operands(*values: TensorLike) -> tuple[Tensor, ...]:
    """`values` as tensors: Python scalars take the dtype of the tensors beside them, arrays their place."""
    like = next((value for value in values if isinstance(value, Tensor)), None)
    if like is None:
        like = next((asarray(value) for value in values if isinstance(value, np.ndarray)), None)
    return tuple([value if isinstance(value, Tensor) else constant(value, like) for value in values])


def constant(value: TensorLike, like: Tensor | None) -> Tensor:
    """`value` as a replicated tensor beside `like`, whose dtype a Python scalar takes if it can."""
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, bool | int | float | complex):
        return asarray(value, placement=None if like is None else like.placement)
    if like is None:
        dtype = scalar_dtype(value, None)
        return filled((), held(value, dtype), dtype, default_layout(None, None))
    # 1, 1.0 and True are equal keys, and -0.0 is equal to 0.0: their texts are not
    constants, key = current().constants, (repr(value), like.dtype, like.placement)
    op, layout = constants.get(key) or constants.keep(key, _constant(value, like))
    return apply(op, layout=layout)  # type: ignore[no-any-return]


def _constant(value: bool | int | float | complex, like: Tensor) -> tuple[Op, Layout]:
    """The operator that makes `value`, and where."""
    dtype, full = scalar_dtype(value, like.dtype), cast(Any, OPS["full"])
    return full(shape=(), value=held(value, dtype), dtype=dtype.name), default_layout(like.placement, None)


def check_number(value: Any) -> None:
    """DTypeError where `value` is no Python number."""
    if not isinstance(value, bool | int | float | complex):
        raise DTypeError(f"{value!r} is no number: pass a Python number, or a tensor without dimensions")


def held(value: Any, dtype: DType) -> Any:
    """`value`, a Python number; DTypeError where `dtype` has none such."""
    check_number(value)
    if dtype.kind in "iu":
        is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if not is_whole or not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            raise DTypeError(f"{value} does not fit {dtype}: cast the tensor beside it, or give another dtype")
        return value if isinstance(value, bool) else int(value)
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise DTypeError(f"{value} does not fit {dtype}: cast the tensor beside it, or give another dtype")
    if is_real(dtype) and isinstance(value, complex):
        raise DTypeError(f"{value} does not fit {dtype}: give a complex dtype, or take the real part")
    return value


@function
def located(device: Any, placement: Placement | None) -> Placement | None:
    """Where the array API's `device` is: a placement, or "cpu" and None: the default one."""
    if device is None or (isinstance(device, str) and device == "cpu"):
        return placement
    if not isinstance(device, Placement):
        raise PlacementError(f"device {device!r} is not available: pass a Placement, or 'cpu' for the default one")
    if placement not in (None, device):
        raise PlacementError(f"device {device} and placement {placement} differ: pass one of them")
    return device


def filled(shape: Shape, value: bool | int | float | complex, dtype: DType, layout: Layout) -> Tensor:
    """A tensor of `shape` with every element `value`."""
    full: Any = OPS["full"]
    return apply(full(shape=shape, value=value, dtype=dtype.name), layout=layout)  # type: ignore[no-any-return]


def default_layout(placement: Placement | None, sbp: SbpLike | None, ndim: int | None = None) -> Layout:
    """The layout asked for; what is left open comes from `fc.use`, and outside it is the whole world and B."""
    default = current().defaults[-1]
    if placement is None:
        placement = default.placement
        sbp = default.sbp if sbp is None else sbp
    layout = kept(Layout(placement, B if sbp is None else sbp))
    current().check(placement)
    return layout if ndim is None else layout.of(ndim)


@function
def asarray(
    x: Any,
    /,
    dtype: Any = None,
    placement: Placement | None = None,
    sbp: SbpLike | None = None,
    *,
    device: Any = None,
    copy: bool | None = None,
) -> Tensor:
    """A tensor of the whole value `x` (the same on every rank), each rank keeping its block.

    `x`: a Tensor, an array (also by the buffer protocol or `__array__`), a scalar, or a (nested) sequence of these;
    Python floats become float32, ints int64, arrays keep their dtype. copy=False: a tensor itself, an array's memory
    under a new name, or CopyError where data would have to be copied or moved; True: neither.
    """
    place = located(device, placement)
    if isinstance(x, list | tuple) and _holds_tensor(x):
        x = FUNCTIONS["stack"]([asarray(item, placement=place) for item in x])
    if isinstance(x, Tensor):
        return _as_tensor(x, dtype, place, sbp, copy)
    array = to_numpy(x, dtype)
    if copy is False and (not isinstance(x, np.ndarray) or not np.may_share_memory(array, x)):
        raise CopyError(f"asarray of {type(x).__name__} as {array.dtype} needs a copy: leave out copy=False")
    layout = default_layout(place, sbp, array.ndim)
    world = current()
    value = Value(Type(array.shape, array.dtype), layout.placement, layout.sbp)
    if layout.is_partial:
        replica = asarray(array, placement=layout.placement, sbp=B)
        return to_global(replica, sbp=layout.sbp)
    if layout.placement.size > 1:
        # ranks must have been given the same array: their chains differ if not, and they stop when they next meet
        ranks = tuple(sorted(layout.placement.ranks))
        what = f"asarray of {value.type} {sbp_text(layout.sbp)} with checksum {checksum(array):#x}"
        world.record(ranks, digest_of(what), what)
    block = _block_of(array, layout, world.rank, copy is not False)
    return Tensor(value, block) if world.trace is None else world.trace.lift(Tensor(value, block))


def _holds_tensor(items: Sequence[Any]) -> bool:
    return any(isinstance(item, Tensor) or (isinstance(item, list | tuple) and _holds_tensor(item)) for item in items)


def _as_tensor(x: Tensor, dtype: Any, placement: Placement | None, sbp: SbpLike | None, copy: bool | None) -> Tensor:
    """`x` as asked for: itself if it is that already, unless a copy is wanted."""
    cast = x if dtype is None or as_dtype(dtype) == x.dtype else x.astype(dtype)
    moved = cast if placement is None and sbp is None else to_global(cast, placement, sbp)
    if moved is x and copy:
        return FUNCTIONS["fresh"](x)  # type: ignore[no-any-return]
    if moved is not x and copy is False:
        raise CopyError("asarray of a tensor in another dtype or layout needs a copy: leave out copy=False")
    return moved


def to_numpy(x: Any, dtype: Any) -> Array:
    """`x` as a numpy array of a supported dtype (of `dtype` unless None)."""
    wanted = None if dtype is None else as_dtype(dtype)
    if hasattr(x, "__array__") or _is_buffer(x):
        array = _from_array(x)
    else:
        array = _from_scalars(x, wanted)
        if wanted is None and is_float(array.dtype):
            wanted = as_dtype("float32" if is_real(array.dtype) else "complex64")
    if array.dtype.kind not in "biufc" and array.dtype not in NARROW:
        raise DTypeError(f"an array of dtype {array.dtype} is no tensor: use numbers or booleans")
    if array.dtype.kind == "c" and wanted is not None and wanted.kind not in "bc":
        raise DTypeError(f"an array of {array.dtype} as {wanted} would lose the imaginary part: take the real part")
    with np.errstate(all="ignore"):
        return array.astype(as_dtype(array.dtype) if wanted is None else wanted, copy=False)


def _from_array(x: Any) -> Array:
    """What another library makes of its array `x` for numpy."""
    try:
        return unmasked(np.asanyarray(x))
    except FlowcoreError:
        raise
    except Exception as error:  # another library raises what it likes
        raise DTypeError(f"{type(x).__name__} gives no array to numpy: {error}") from error


def unmasked(array: Array) -> Array:
    """The same memory as a plain array; DTypeError where elements of it are masked."""
    if np.ma.is_masked(array):
        raise DTypeError("an array with masked elements: a tensor has no mask; fill them in with .filled(value)")
    return np.asarray(array)


def _from_scalars(x: Any, dtype: DType | None) -> Array:
    """A scalar or a (nested) sequence of scalars as numpy reads it; given `dtype`, digits that it has are kept."""
    try:
        array = np.asarray(x, dtype if dtype is not None and dtype.kind in "iu" else None)
    except OverflowError as error:
        raise DTypeError(f"a number does not fit {dtype}: {error}; give another dtype") from None
    except (TypeError, ValueError) as error:
        raise ShapeError(
            f"cannot make an array of {type(x).__name__}: {error}; give numbers, in rows of equal length"
        ) from None
    is_beyond = dtype is None and is_real(array.dtype) and (array >= 2**63).any()
    if is_beyond and all(isinstance(item, int) for item in np.asarray(x, object).flat):
        # numpy makes floats of integers that fit no one integer dtype
        raise DTypeError(f"no integer dtype holds all of {x!r}: give a floating dtype")
    return array


def _is_buffer(x: Any) -> bool:
    """Whether `x` gives its memory and the dtype of what is there, as `array.array` does."""
    try:
        memoryview(x)
    except TypeError:
        return False
    return not isinstance(x, bytes)


def _block_of(array: Array, layout: Layout, rank: int, copy: bool) -> Array | None:
    if rank not in layout.placement:
        return None
    box = layout.box(array.shape, rank)
    block = array[tuple(slice(start, stop) for start, stop in box)] if box else array
    return np.array(block, order="C") if copy else block


def checksum(array: Array) -> int:
    """A number that tells the bytes of arrays apart."""
    return crc32(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data if array.size else b"")


@function
def to_global(
    x: Tensor, placement: Placement | None = None, sbp: SbpLike | None = None, grad_sbp: SbpLike | None = None
) -> Tensor:
    """`x` on `placement`, laid out as `sbp`; see `Tensor.to_global`."""
    world = current()
    if x._requires_grad or world.trace is not None or x.trace is not None:
        op = _relayout(x, placement, sbp, grad_sbp)
        return x if op is None else apply(op, x)
    key = x._value, placement, sbp, grad_sbp
    try:
        move: tuple[Value, Carry] | None = world.relayouts[key]
    except (KeyError, TypeError):  # an sbp may be a dict, which cannot be a key
        op = _relayout(x, placement, sbp, grad_sbp)
        program = None if op is None else _program(world, op, (x,), None)
        move = None if program is None else (program.results[0], program.carrying(world))
        with suppress(TypeError):
            world.relayouts.keep(key, move)
    return x if move is None else Tensor(move[0], move[1](x.block))


def _relayout(x: Tensor, placement: Placement | None, sbp: SbpLike | None, grad_sbp: SbpLike | None) -> Relayout | None:
    """The operator that `to_global` applies; None where there is nothing to change."""
    target = x.placement if placement is None else placement
    current().check(target)
    wanted = _wanted_sbp(x, target, sbp)
    back = ""
    if grad_sbp is not None:
        back = sbp_text(kept(Layout(x.placement, grad_sbp).of(x.ndim)).sbp)
    elif x.value.sbp is not None:
        back = sbp_text(tuple(B if isinstance(part, Partial) else part for part in x.sbp))
    if target == x.placement and wanted == x.value.sbp and grad_sbp is None and x.trace is None:
        return None
    return Relayout(str(target), sbp_text(wanted), str(x.placement), back)


def _wanted_sbp(x: Tensor, target: Placement, sbp: SbpLike | None) -> NdSbp:
    if sbp is not None:
        return kept(Layout(target, sbp).of(x.ndim)).sbp
    own = x.sbp
    if len(own) != target.ndim:
        raise PlacementError(
            f"sbp {sbp_text(own)} does not fit {target}, which has {target.ndim} axes: pass sbp= as well"
        )
    return normalize(own, x.ndim)


@function
def gathered(x: Tensor) -> Tensor:
    """`x` with every rank of its placement holding the whole value; no gradient."""
    if x.placement.size == 1:
        return x
    return _eager(current(), Relayout(str(x.placement), sbp_text(Layout(x.placement, B).sbp)), (x,), None)[0]


@function
def assign(x: Tensor, new: Tensor) -> None:
    """Replace the value of `x`; see `Tensor.assign`."""
    if new.shape != x.shape or new.dtype != x.dtype:
        raise ShapeError(f"cannot assign {new.value.type} to a tensor of {x.value.type}: shape and dtype must be equal")
    world = current()
    if x.trace is not None:
        raise TraceError("a traced intermediate cannot be assigned to: assign to a parameter or a state tensor")
    if world.trace is not None:
        world.trace.assign(x, new)
    else:
        x.block = _eager(world, Relayout(str(x.placement), sbp_text(x.sbp)), (new,), None)[0].block
    x.version += 1


def from_shape(op: Op, shape: Shape, placement: Placement | None, sbp: SbpLike | None) -> Tensor:
    """The result of an operator without inputs, of `shape`, where asked."""
    return apply(op, layout=default_layout(placement, sbp, len(shape)))  # type: ignore[no-any-return]
