"""Memory asked for before it is needed, so that what follows does not wait for it; needs numba."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from flowcore.jit.lanes import exact

LINE = 64
"""Bytes of a cache line."""
KEPT, DATA = 2, 1
"""To the second cache, which can wait for more lines at a time than the first, and not as code."""


def _ask(context, array, place):
    """Begin to load the cache line of element `place` of a flat array."""

    def generate(context, builder, signature, given):
        flags, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        function = builder.module.globals.get("llvm.prefetch.p0i8") or ir.Function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, flags, flags, flags]), "llvm.prefetch.p0i8"
        )
        data = context.make_array(signature.args[0])(context, builder, given[0]).data
        address = builder.bitcast(builder.gep(data, [given[1]]), byte)
        builder.call(function, [address, flags(0), flags(KEPT), flags(DATA)])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


ask: Any = intrinsic(_ask)


@exact
def fetch(array, start, length):
    """Begin to load `length` elements of a flat array from `start` on."""
    for place in range(start, start + length, LINE // array.itemsize):
        ask(array, place)
