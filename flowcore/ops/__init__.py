"""The operators and their public functions."""

from flowcore.ops import alias as alias
from flowcore.ops import check as check
from flowcore.ops import random as random
from flowcore.ops.argument import argmax, argmin
from flowcore.ops.arithmetic import add, divide, floor_divide, multiply, power, remainder, subtract
from flowcore.ops.cast import astype
from flowcore.ops.comparison import (
    equal,
    greater,
    greater_equal,
    isfinite,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
)
from flowcore.ops.contract import contract, matmul, tensordot
from flowcore.ops.create import arange, eye, full, linspace, ones, zeros
from flowcore.ops.erf import erf
from flowcore.ops.extrema import maximum, minimum
from flowcore.ops.gather import scatter_add, take, take_along_axis
from flowcore.ops.indexing import flip, getitem, one_hot
from flowcore.ops.join import concat, concatenate, pad, stack
from flowcore.ops.reduce import all, any, max, mean, min, sum
from flowcore.ops.rounding import abs, ceil, floor, negative, round, sign
from flowcore.ops.selection import where
from flowcore.ops.shape import broadcast_to, expand_dims, permute_dims, reshape, squeeze, transpose
from flowcore.ops.unary import cos, exp, expm1, log, log1p, sin, sqrt, square, tanh

__all__ = [
    "abs",
    "add",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "astype",
    "broadcast_to",
    "ceil",
    "concat",
    "concatenate",
    "contract",
    "cos",
    "divide",
    "equal",
    "erf",
    "exp",
    "expand_dims",
    "expm1",
    "eye",
    "flip",
    "floor",
    "floor_divide",
    "full",
    "getitem",
    "greater",
    "greater_equal",
    "isfinite",
    "isnan",
    "less",
    "less_equal",
    "linspace",
    "log",
    "log1p",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "multiply",
    "negative",
    "not_equal",
    "one_hot",
    "ones",
    "pad",
    "permute_dims",
    "power",
    "remainder",
    "reshape",
    "round",
    "scatter_add",
    "sign",
    "sin",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "subtract",
    "sum",
    "take",
    "take_along_axis",
    "tanh",
    "tensordot",
    "transpose",
    "where",
    "zeros",
]
