"""Functions of one number from which loops are generated, written so that LLVM vectorises them; needs numba.

float32 transcendental functions are arithmetic (range reduction and polynomials of S. L. Moshier's Cephes library, with
errors of a few units in the last place); float64 ones call the C library. Sums may be taken in any order, nothing else.
"""

from __future__ import annotations

import math
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
fused = numba.njit(fastmath={"contract"}, **INNER)
any_order = numba.njit(fastmath={"reassoc", "nsz"}, **INNER)


@any_order
def add_f4(a, b):
    return a + b


@any_order
def add_f8(a, b):
    return a + b


def _greatest(context, a, b):
    """max(a, b), nan where either is nan."""

    def generate(context, builder, signature, arguments):
        kind = context.get_value_type(signature.return_type)
        name = "llvm.maximum." + ("f32" if kind == ir.FloatType() else "f64")
        function = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(kind, [kind, kind]), name
        )
        return builder.call(function, arguments)

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


@fused
def exp_f4(x):
    y = f4(-104) if x < f4(-104) else x
    y = f4(89) if y > f4(89) else y
    n = np.floor(y * f4(1.44269504088896341) + f4(0.5))
    r = y - n * f4(0.693359375)
    r = r + n * f4(2.12194440e-4)
    p = f4(1.9875691500e-4)
    p = p * r + f4(1.3981999507e-3)
    p = p * r + f4(8.3334519073e-3)
    p = p * r + f4(4.1665795894e-2)
    p = p * r + f4(1.6666665459e-1)
    p = p * r + f4(5.0000001201e-1)
    p = p * r * r + r + f4(1)
    # 2^n in two factors, so that results below the least normal number are reached
    low = i4(n) >> i4(1)
    high = i4(n) - low
    p = p * i4((low + i4(127)) << i4(23)).view(f4) * i4((high + i4(127)) << i4(23)).view(f4)
    return x if x != x else p


@fused
def tanh_f4(x):
    z = x * x
    p = f4(-5.70498872745e-3)
    p = p * z + f4(2.06390887954e-2)
    p = p * z + f4(-5.37397155531e-2)
    p = p * z + f4(1.33314422036e-1)
    p = p * z + f4(-3.33332819422e-1)
    near = p * z * x + x if z > f4(0) else x  # the sum of 0.0 and -0.0 would be 0.0
    size = abs(x)
    far = f4(1) - f4(2) / (exp_f4(size + size) + f4(1))
    far = -far if x < f4(0) else far
    return near if size < f4(0.625) else far


@exact
def exp_f8(x):
    return math.exp(x)


@exact
def tanh_f8(x):
    return math.tanh(x)


@exact
def log_f4(x):
    return np.log(x)


@exact
def log_f8(x):
    return np.log(x)


@exact
def log1p_f4(x):
    return np.log1p(x)


@exact
def log1p_f8(x):
    return np.log1p(x)


@exact
def expm1_f4(x):
    return np.expm1(x)


@exact
def expm1_f8(x):
    return np.expm1(x)


@exact
def sqrt_f4(x):
    return np.sqrt(x)


@exact
def sqrt_f8(x):
    return np.sqrt(x)


@exact
def pow_f4(x, y):
    return x**y


@exact
def pow_f8(x, y):
    return x**y


@exact
def sin_f4(x):
    return np.sin(x)


@exact
def sin_f8(x):
    return np.sin(x)


@exact
def cos_f4(x):
    return np.cos(x)


@exact
def cos_f8(x):
    return np.cos(x)


@exact
def erf_f4(x):
    return f4(math.erf(x))


@exact
def erf_f8(x):
    return math.erf(x)


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
