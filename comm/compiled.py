"""Sums of terms compiled by numba (the extra `jit`): one pass over all terms, a vector of 64 bytes at a time.

Terms are added from the first to the last, as numpy adds them one after the other, so that results are equal bit for
bit. A result larger than the cache is written past it (non-temporal stores): memory it replaces need not be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

Array = np.ndarray[Any, Any]
VECTOR = 64
STREAM = 16 << 20
"""Bytes of a result that is written past the cache."""


def _vector_sum(is_streamed: bool) -> Any:
    """A compiled statement: out[at : at + 64 bytes] = the sum of the terms there; `out` is aligned at `at`."""

    def statement(context: Any, out: Any, terms: Any, at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array, tuple_ = signature.args[0], arguments[1]
            element = context.get_value_type(array.dtype)
            size = array.dtype.bitwidth // 8
            kind = ir.VectorType(element, VECTOR // size)

            def place(value: Any, type_: Any) -> Any:
                data = context.make_array(type_)(context, builder, value).data
                return builder.bitcast(builder.gep(data, [arguments[2]]), kind.as_pointer())

            total = None
            for number in range(len(signature.args[1])):
                term = builder.extract_value(tuple_, number)
                loaded = builder.load(place(term, signature.args[1][number]), align=size)
                total = loaded if total is None else builder.fadd(total, loaded)
            stored = builder.store(total, place(arguments[0], array), align=VECTOR)
            if is_streamed:
                one = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
                stored.set_metadata("nontemporal", one)
            return context.get_dummy_value()

        return types.void(out, terms, at), generate

    return intrinsic(statement)


def _fence_statement(context: Any) -> Any:
    """What was written past the cache is there before anything written later."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.sfence"), [])
        return context.get_dummy_value()

    return types.void(), generate


_plain, _streamed, _fence = _vector_sum(False), _vector_sum(True), intrinsic(_fence_statement)


def _jit(function: Callable[..., Any]) -> Any:
    options = {"nogil": True, "error_model": "numpy", "boundscheck": False}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # there is no folder for compiled code that this user may write to
        return numba.njit(**options)(function)


def _add(out: Array, terms: tuple[Array, ...]) -> None:
    lanes = VECTOR // out.itemsize
    head = min(-out.ctypes.data % VECTOR // out.itemsize, out.shape[0])
    body = head + (out.shape[0] - head) // lanes * lanes
    for i in range(head):
        total = terms[0][i]
        for term in terms[1:]:
            total += term[i]
        out[i] = total
    if out.nbytes >= STREAM:
        for i in range(head, body, lanes):
            _streamed(out, terms, i)
        _fence()
    else:
        for i in range(head, body, lanes):
            _plain(out, terms, i)
    for i in range(body, out.shape[0]):
        total = terms[0][i]
        for term in terms[1:]:
            total += term[i]
        out[i] = total


_sum = _jit(_add)


def sum_into(terms: Sequence[Array], out: Array) -> bool:
    """out = terms[0] + terms[1] + …, for float32 or float64 arrays; False, and nothing done, where it cannot.

    It can for at most 8 terms, all contiguous; `out` overlaps none.
    """
    if len(terms) > 8 or not out.flags.c_contiguous or not all(term.flags.c_contiguous for term in terms):
        return False
    flat = [term.reshape(-1) for term in terms]
    for term in flat:
        term.flags.writeable = False  # of this view; arrays of one type make one compiled sum for each number of terms
    _sum(out.reshape(-1), tuple(flat))
    return True
