"""Matrix products inside compiled kernels: calls of numpy's own BLAS on parts of flat arrays; needs numba.

Machine code names the function by a symbol, which this module binds to its address in every process, before kernels
that were compiled by an earlier one are loaded. A call takes one thread, or as many as numpy's BLAS was told to take.
ImportError where numpy's BLAS is not known to `library`.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from flowcore.jit.lanes import exact
from flowcore.jit.library import gemm_addresses, has_gemm

if not has_gemm():
    raise ImportError("numpy's BLAS is none whose functions are known by name: products are calls of numpy then")
SYMBOLS = {types.float32: "flowcore_gemm_f4", types.float64: "flowcore_gemm_f8"}
for symbol in SYMBOLS.values():
    llvm.add_symbol(symbol, gemm_addresses()[symbol[-2:]])
ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112
INTEGER, ENUM, ADDRESS = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer()


def _call(context, ta, tb, m, n, k, alpha, a, a0, lda, b, b0, ldb, beta, c, c0, ldc):
    element = c.dtype
    if element not in SYMBOLS or any((x.dtype, x.ndim, x.layout) != (element, 1, "C") for x in (a, b, c)):
        raise TypingError(f"gemm of {a}, {b} and {c}: takes flat arrays of float32, or of float64")
    lengths = (types.int64,) * 3
    signature = types.void(
        types.boolean, types.boolean, *lengths, element, a, types.int64, types.int64, b, types.int64, types.int64,
        element, c, types.int64, types.int64,
    )  # fmt: skip

    def generate(context, builder, signature, given):
        number = context.get_value_type(element)
        form = [
            *[ENUM] * 3, *[INTEGER] * 3, number, ADDRESS, INTEGER, ADDRESS, INTEGER, number, ADDRESS, INTEGER,
        ]  # fmt: skip
        name = SYMBOLS[element]
        function = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(ir.VoidType(), form), name
        )

        def order(flag):
            return builder.select(builder.trunc(flag, ir.IntType(1)), ENUM(TRANSPOSED), ENUM(PLAIN))

        def start(place):
            array = context.make_array(signature.args[place])(context, builder, given[place])
            return builder.bitcast(builder.gep(array.data, [given[place + 1]]), ADDRESS)

        builder.call(
            function,
            [
                ENUM(ROW_MAJOR), order(given[0]), order(given[1]), *given[2:6], start(6), given[8], start(9), given[11],
                given[12], start(13), given[15],
            ],
        )  # fmt: skip
        return context.get_dummy_value()

    return signature, generate


call: Any = intrinsic(_call)


@exact
def gemm(ta, tb, m, n, k, alpha, a, a0, lda, b, b0, ldb, beta, c, c0, ldc):
    """c (m, n) ← alpha · op(a) (m, k) op(b) (k, n) + beta · c, matrices by rows; beta = 0: what c held is not read.

    a, b, c: flat arrays of one dtype, in which the matrices begin at elements a0, b0, c0 and whose rows lie lda, ldb,
    ldc elements apart. ta, tb: whether a is stored as (k, m), b as (n, k).
    """
    if m > 0 and n > 0:
        call(ta, tb, m, n, k, alpha, a, a0, max(lda, 1), b, b0, max(ldb, 1), beta, c, c0, max(ldc, 1))
