"""The operators of Python on tensors: each is the function of the array API it stands for, and its reflected form.

In-place forms (`x += y`) give a new value to the name, as for numbers; other names of the tensor keep the old value.
They do not change shape or dtype: ShapeError or DTypeError where the result would not fit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from flowcore.errors import DTypeError, ShapeError
from flowcore.op import FUNCTIONS

if TYPE_CHECKING:
    from flowcore.tensor import Tensor

Unary = Callable[[Any], "Tensor"]
Binary = Callable[[Any, Any], "Tensor"]


def unary(name: str) -> Unary:
    """The method that is function `name` of self."""
    return lambda self: FUNCTIONS[name](self)


def binary(name: str) -> Binary:
    """The method that is function `name` of self and another operand."""

    def method(self: Any, other: Any) -> Any:
        return FUNCTIONS[name](self, other) if _is_operand(other) else NotImplemented

    return method


def forms(name: str) -> tuple[Binary, Binary, Binary]:
    """The method that is function `name`, its reflected and its in-place form."""
    method = binary(name)

    def reflected(self: Any, other: Any) -> Any:
        return FUNCTIONS[name](other, self) if _is_operand(other) else NotImplemented

    def in_place(self: Any, other: Any) -> Any:
        result: Any = method(self, other)
        if result is not NotImplemented:
            _check_fits(name, self, result)
        return result

    return method, reflected, in_place


def _is_operand(other: Any) -> bool:
    """Whether `other` is something to make a tensor of; else it may know what to do with a tensor itself."""
    return isinstance(other, OPERANDS) or hasattr(other, "__array__")


def _check_fits(name: str, x: Any, result: Any) -> None:
    if result.shape != x.shape:
        raise ShapeError(
            f"{name} in place gives shape {result.shape}, but the tensor has {x.shape}: write x = {name}(x, …)"
        )
    if result.dtype != x.dtype:
        raise DTypeError(
            f"{name} in place gives {result.dtype}, but the tensor has {x.dtype}: cast one, or write x = {name}(x, …)"
        )


class Operators:
    """What Python's operators do with tensors."""

    __slots__ = ()

    __add__, __radd__, __iadd__ = forms("add")
    __sub__, __rsub__, __isub__ = forms("subtract")
    __mul__, __rmul__, __imul__ = forms("multiply")
    __truediv__, __rtruediv__, __itruediv__ = forms("divide")
    __floordiv__, __rfloordiv__, __ifloordiv__ = forms("floor_divide")
    __mod__, __rmod__, __imod__ = forms("remainder")
    __pow__, __rpow__, __ipow__ = forms("pow")
    __matmul__, __rmatmul__, __imatmul__ = forms("matmul")
    __and__, __rand__, __iand__ = forms("bitwise_and")
    __or__, __ror__, __ior__ = forms("bitwise_or")
    __xor__, __rxor__, __ixor__ = forms("bitwise_xor")
    __lshift__, __rlshift__, __ilshift__ = forms("bitwise_left_shift")
    __rshift__, __rrshift__, __irshift__ = forms("bitwise_right_shift")

    __neg__, __pos__, __abs__, __invert__ = map(unary, ("negative", "positive", "abs", "bitwise_invert"))

    __lt__, __le__, __gt__, __ge__ = map(binary, ("less", "less_equal", "greater", "greater_equal"))
    __eq__, __ne__ = binary("equal"), binary("not_equal")  # type: ignore[assignment]  # elementwise, as in the array API
    __hash__ = object.__hash__

    real, imag = property(unary("real")), property(unary("imag"))


OPERANDS = (Operators, bool, int, float, complex, np.ndarray, np.generic, list, tuple)
