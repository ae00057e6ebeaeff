"""Functions of C called by their addresses inside compiled kernels, and so products of oneDNN; needs numba."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types as numba_types
from numba.extending import intrinsic

from flowcore.jit.lanes import inlined

types: Any = numba_types  # some are made when it is imported


def _call(context, address, words):
    """The number that the function at `address` returns for `words`, each as wide as an address, or narrower."""

    def generate(context, builder, signature, given):
        word = ir.IntType(64)
        function = ir.FunctionType(ir.IntType(32), [word] * words.count).as_pointer()
        parts = [builder.extract_value(given[1], place) for place in range(words.count)]
        return builder.sext(builder.call(builder.inttoptr(given[0], function), parts), word)

    return types.int64(types.int64, words), generate


call: Any = intrinsic(_call)


@inlined
def product(arguments, move, execute, primitive, stream, first, second, result, rest, a, b, c, scratch):
    """c ← the product that `primitive` is for; 0 where all is well.

    first, second, result, rest: what tells the library where a, b, c and scratch lie, by the function at `move`.
    """
    call(move, (first, a.ctypes.data))
    call(move, (second, b.ctypes.data))
    call(move, (result, c.ctypes.data))
    call(move, (rest, scratch.ctypes.data))
    return call(execute, (primitive, stream, 4, arguments))
