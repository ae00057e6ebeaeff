"""Convolution of channels-last blocks by compiled kernels: what `ops/convolve.py` computes, in a faster layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, ClassVar

import numpy as np

from flowcore.jit import store
from flowcore.jit.convolution import Form, launch
from flowcore.jit.launch import Launch
from flowcore.jit.library import has_gemm
from flowcore.jit.table import call
from flowcore.op import Array, Op, Type


def is_available() -> bool:
    """Whether its kernels can be compiled."""
    return store.is_available() and has_gemm()


@dataclass(frozen=True)
class Convolved(Op):
    """The tensor `result` ("x", "y" or "w") of the form of `ops/convolve.py`, from the two others in the order x, y, w.

    x: (n, *h, c) or, if `is_grouped`, (n, *h, g, c); y likewise with o; w: (o, c, *k) or (g, o, c, *k). `lengths` are
    the spatial lengths of the result. float32 and float64; see `jit/winograd.py` for the rounding in float32.
    """

    result: str
    is_grouped: bool
    lengths: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]

    name: ClassVar[str] = "convolved"
    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    def form(self, types: Sequence[Type]) -> Form:
        """The convolution for operands of these types."""
        roles = [role for role in "xyw" if role != self.result]
        shapes = {role: type.shape for role, type in zip(roles, types, strict=True)}
        count, found = len(self.lengths), {self.result: self.lengths}
        for role, shape in shapes.items():
            found[role] = shape[len(shape) - count :] if role == "w" else shape[1 : 1 + count]
        n = next(shapes[role][0] for role in "xy" if role in shapes)
        if "w" in shapes:
            g, o, c = (1,) * (not self.is_grouped) + shapes["w"][: len(shapes["w"]) - count]
        else:
            g, c, o = (shapes["x"][-2] if self.is_grouped else 1), shapes["x"][-1], shapes["y"][-1]
        ones, zeros = (1,) * (3 - count), (0,) * (3 - count)
        x, y, w = (ones + found[role] for role in "xyw")
        return Form(n, g, c, o, x, y, w, ones + self.strides, ones + self.dilations, zeros + self.before)

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        form = self.form(types)
        groups = (form.g,) * self.is_grouped
        shape = {
            "x": (form.n, *self.lengths, *groups, form.c),
            "y": (form.n, *self.lengths, *groups, form.o),
            "w": (*groups, form.o, form.c, *self.lengths),
        }[self.result]
        return (Type(shape, types[0].dtype),)

    def launch(self, types: Sequence[Type]) -> Launch:
        return _launch(self, tuple(types))

    def scratch(self, types: Sequence[Type]) -> Sequence[Type]:
        return tuple(Type((size,), types[0].dtype) for size in self.launch(types).scratch)

    def kernel(self, *arrays: Any, **_: Any) -> Any:
        return self.write((None,), *arrays)

    def write(self, results: Sequence[Array | None], *arrays: Any) -> Any:
        given = [np.ascontiguousarray(array) for array in arrays]
        types = [Type(array.shape, array.dtype) for array in given]
        launch = self.launch(types)
        result, *scratch = results
        if result is None:
            (type,) = self.infer(*types)
            result = np.empty(type.shape, type.dtype)
        held = scratch or [None] * len(launch.scratch)
        pairs = zip(held, launch.scratch, strict=True)
        own = [np.empty(size, given[0].dtype) if memory is None else memory for memory, size in pairs]
        call(launch.kernel, launch.numbers, [*given, result, *own])
        return result

    def flops(self, *types: Type) -> int:
        form = self.form(types)
        return 2 * form.n * form.g * form.c * form.o * prod(form.y) * prod(form.w)


@lru_cache(maxsize=4096)
def _launch(op: Convolved, types: tuple[Type, ...]) -> Launch:
    return launch(op.form(types), op.result, str(types[0].dtype))
