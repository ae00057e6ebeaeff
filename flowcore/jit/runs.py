"""Runs of elements copied, cleared and added inside compiled kernels; needs numba."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types as numba_types
from numba.extending import intrinsic

from flowcore.jit.lanes import exact

types: Any = numba_types  # some are made when it is imported


def _run(builder, context, x, given, place, count):
    """(address of element `place`, bytes of `count` elements)."""
    data = context.make_array(x)(context, builder, given).data
    address = builder.bitcast(builder.gep(data, [place]), ir.IntType(8).as_pointer())
    return address, builder.mul(count, count.type(x.dtype.bitwidth // 8))


def _copy(context, y, to, x, at, count):
    """y[to : to + count] = x[at : at + count]"""

    def generate(context, builder, signature, given):
        into, size = _run(builder, context, y, given[0], given[1], given[4])
        source, _ = _run(builder, context, x, given[2], given[3], given[4])
        function = builder.module.declare_intrinsic("llvm.memcpy", [into.type, source.type, size.type])
        builder.call(function, [into, source, size, ir.IntType(1)(0)])
        return context.get_dummy_value()

    return types.void(y, types.int64, x, types.int64, types.int64), generate


def _zero(context, y, to, count):
    """y[to : to + count] = 0"""

    def generate(context, builder, signature, given):
        into, size = _run(builder, context, y, given[0], given[1], given[2])
        function = builder.module.declare_intrinsic("llvm.memset", [into.type, size.type])
        builder.call(function, [into, ir.IntType(8)(0), size, ir.IntType(1)(0)])
        return context.get_dummy_value()

    return types.void(y, types.int64, types.int64), generate


copy: Any = intrinsic(_copy)
zero: Any = intrinsic(_zero)


@exact
def add(y, to, x, at, count):
    """y[to : to + count] += x[at : at + count]"""
    into, source = y[to : to + count], x[at : at + count]
    for i in range(into.shape[0]):
        into[i] += source[i]


@exact
def transpose(y, x, rows, columns):
    """y (columns, rows) = x (rows, columns) transposed, both at element 0."""
    for i in range(rows):
        for j in range(columns):
            y[j * rows + i] = x[i * columns + j]
