"""Numbers in generated loops: kinds, casts, sums and greatest, written so that LLVM vectorises them; needs numba.

Sums may be taken in any order, nothing else.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

# a loop over many arrays is vectorised only where LLVM may compare them all for overlap; the default is 8 pairs
llvm.set_option("", "--runtime-memory-check-threshold=400")

f4, f8, i4, i8, u2 = np.float32, np.float64, np.int32, np.int64, np.uint16
inf, nan = math.inf, math.nan
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}
INNER: dict[str, Any] = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

exact = numba.njit(**INNER)
fused = numba.njit(fastmath={"contract"}, forceinline=True, **INNER)
any_order = numba.njit(fastmath={"reassoc", "nsz"}, **INNER)
# numba optimises a function and all that it calls, then again within each caller: what is called once in a kernel, or
# seldom, is compiled with its caller only. It is as exact as that
inlined = numba.njit(inline="always", **INNER)


def distinct(function: Any, *parts: Any, compile: Any = exact) -> Any:
    """`function`, made inside another from `parts`, compiled under a name of its own.

    Machine code kept on disk is told apart by names only, so functions of one name would be taken for one another. A
    part is a function, an array, or what its repr tells all of.
    """

    def text(part: Any) -> str:
        return repr(part.tolist() if isinstance(part, np.ndarray) else getattr(part, "__qualname__", part))

    name = f"{function.__name__}_{blake2b(' '.join(map(text, parts)).encode(), digest_size=8).hexdigest()}"
    function.__name__ = function.__qualname__ = name
    return compile(function)


@any_order
def add_f4(a, b):
    return a + b


@any_order
def add_f8(a, b):
    return a + b


def _greatest(context, a, b):
    """max(a, b), nan where either is nan; of two zeros any."""

    def generate(context, builder, signature, arguments):
        kind = context.get_value_type(signature.return_type)
        name = "llvm.maximum." + ("f32" if kind == ir.FloatType() else "f64")
        function = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(kind, [kind, kind]), name
        )
        return builder.call(function, arguments, fastmath=("nsz",))

    return a(a, b), generate


greatest: Any = intrinsic(_greatest)


@exact
def greatest_f4(a, b):
    return greatest(a, b)


@exact
def greatest_f8(a, b):
    return greatest(a, b)


def _half_to_float(context, x):
    """The float32 that the bits of a float16 stand for."""

    def generate(context, builder, signature, arguments):
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), generate


def _float_to_half(context, x):
    """The bits of the float16 nearest to a float32, of two the even one."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(builder.fptrunc(arguments[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), generate


def _brain_to_float(context, x):
    """The float32 that the bits of a bfloat16 stand for: its upper half."""

    def generate(context, builder, signature, arguments):
        word = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.zext(arguments[0], word), word(16)), ir.FloatType())

    return types.float32(types.uint16), generate


def _float_to_brain(context, x):
    """The bits of the bfloat16 nearest to a float32, of two the even one; nan stays nan."""

    def generate(context, builder, signature, arguments):
        word, (number,) = ir.IntType(32), arguments
        bits = builder.bitcast(number, word)
        upper = builder.lshr(bits, word(16))
        half = builder.add(word(0x7FFF), builder.and_(upper, word(1)))
        nearest = builder.lshr(builder.add(bits, half), word(16))
        is_nan = builder.fcmp_unordered("uno", number, number)
        return builder.trunc(builder.select(is_nan, builder.or_(upper, word(0x40)), nearest), ir.IntType(16))

    return types.uint16(types.float32), generate


_f4_f2: Any = intrinsic(_half_to_float)
_f2_f4: Any = intrinsic(_float_to_half)
_f4_b2: Any = intrinsic(_brain_to_float)
_b2_f4: Any = intrinsic(_float_to_brain)


@exact
def f4_f2(x):
    return _f4_f2(x)


@exact
def f2_f4(x):
    return _f2_f4(x)


@exact
def f4_b2(x):
    return _f4_b2(x)


@exact
def b2_f4(x):
    return _b2_f4(x)


@exact
def abs_f4(x):
    return abs(x)


@exact
def abs_f8(x):
    return abs(x)


@exact
def abs_i4(x):
    return abs(x)


@exact
def abs_i8(x):
    return abs(x)


KINDS = {
    "f4": types.float32, "f8": types.float64, "i4": types.int32, "i8": types.int64, "b1": types.boolean,
    "f2": types.uint16, "b2": types.uint16,
}  # fmt: skip
