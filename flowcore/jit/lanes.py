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

f4, f8, i4, i8 = np.float32, np.float64, np.int32, np.int64
inf, nan = math.inf, math.nan
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}

exact = numba.njit(**OPTIONS)
fused = numba.njit(fastmath={"contract"}, **OPTIONS)
any_order = numba.njit(fastmath={"reassoc", "nsz"}, **OPTIONS)


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


KINDS = {"f4": types.float32, "f8": types.float64, "i4": types.int32, "i8": types.int64, "b1": types.boolean}


def signature(integers, arrays):
    """The signature of a loop of so many integers and flat arrays of these kinds; "f4!" is one it writes to."""
    flat = [types.Array(KINDS[kind.rstrip("!")], 1, "C", readonly=kind[-1] != "!") for kind in arrays]
    return types.void(*[types.int64] * integers, *flat)
