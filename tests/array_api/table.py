"""What the functions of the standard are compared on: expressions, operands and what numpy is expected to say.

A row gives expressions over `xp` (flowcore, or `REFERENCE`: numpy where it follows the standard) and operands x, y, z.
A function that lands is covered by adding its row; the test of coverage names those that lack one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flowcore.op import Type
from flowcore.simulate import draw

Shape = tuple[int, ...]
Shapes = tuple[tuple[Shape, ...], ...]

DTYPES = {
    "b": ("bool",),
    "i": ("int8", "int16", "int32", "int64"),
    "u": ("uint8", "uint16", "uint32", "uint64"),
    "f": ("float32", "float64"),
    "c": ("complex64", "complex128"),
}
ONE: Shapes = (((),), ((7,),), ((0,),), ((5, 7),), ((3, 0, 2),))
TWO: Shapes = (((), ()), ((5, 7), (5, 7)), ((5, 1), (3, 1, 7)), ((0, 3), (3,)), ((5, 7), ()))
LINES: Shapes = (((7,),), ((5, 7),), ((3, 5, 4),))
MATRICES: Shapes = (((5, 7),), ((3, 5, 4),))
NOTHING: Shapes = ((),)


@dataclass(frozen=True)
class Row:
    """Expressions, the kinds of dtypes and the shapes of their operands, and how these are drawn."""

    name: str
    calls: tuple[str, ...]
    kinds: str = "iufc"
    shapes: Shapes = ONE
    draws: tuple[str, ...] = ("normal",)
    tolerance: float = 1.0
    """How much less exact than usual a result may be."""

    def __post_init__(self) -> None:
        assert self.name in "".join(self.calls), f"the row of {self.name} does not call it"


def rows(text: str, **options: Any) -> list[Row]:
    """One row per line: the expressions of a function, separated by `;`; the first names it."""
    made = []
    for line in text.strip().splitlines():
        calls = tuple(call.strip() for call in line.split(";"))
        name = calls[0].partition("(")[0].removeprefix("list ").strip()
        made.append(Row(name, calls, **options))
    return made


def operands(row: Row, shapes: tuple[Shape, ...], dtype: str, random: np.random.Generator) -> list[Any]:
    """Whole operands of `shapes`; the dtype of those drawn as indices or booleans is their own."""
    drawn = []
    for shape, how in zip(shapes, row.draws, strict=True):
        own = "int64" if how.startswith("index") else "bool" if how == "bool" else dtype
        drawn.append(draw(Type(shape, np.dtype(own)), how, random))
    return drawn


class Reference:
    """numpy, but for what the standard and flowcore's default dtypes say otherwise."""

    @property
    def fft(self) -> Any:
        """The transforms."""
        return Fourier()

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def floor_divide(x: Any, y: Any) -> Any:
        """Infinite quotients stay infinite; those of finite by infinite numbers are zeros."""
        found, quotient = np.floor_divide(x, y), np.divide(x, y)
        if found.dtype.kind != "f":
            return found
        return np.where(np.isinf(x) & np.isfinite(y) | np.isfinite(x) & np.isinf(y), quotient, found)

    @staticmethod
    def sign(x: Any) -> Any:
        """The sign of -0.0 is 0.0."""
        return np.sign(x) + np.asarray(0, np.asarray(x).dtype)

    @staticmethod
    def clip(x: Any, *bounds: Any, **named: Any) -> Any:
        """In the dtype of x."""
        return np.asarray(np.clip(x, *bounds, **named)).astype(np.asarray(x).dtype)

    @staticmethod
    def unique_values(x: Any) -> Any:
        """In order."""
        return np.unique(x)

    @staticmethod
    def zeros(shape: Any, dtype: Any = np.float32) -> Any:
        return np.zeros(shape, dtype)

    @staticmethod
    def ones(shape: Any, dtype: Any = np.float32) -> Any:
        return np.ones(shape, dtype)

    @staticmethod
    def empty(shape: Any, dtype: Any = np.float32) -> Any:
        return np.zeros(shape, dtype)

    @staticmethod
    def empty_like(x: Any, dtype: Any = None) -> Any:
        return np.zeros_like(x, dtype)

    @staticmethod
    def full(shape: Any, value: Any, dtype: Any = None) -> Any:
        kind = np.asarray(value).dtype.kind
        return np.full(shape, value, {"f": np.float32, "c": np.complex64}.get(kind) if dtype is None else dtype)

    @staticmethod
    def eye(*lengths: Any, k: int = 0, dtype: Any = np.float32) -> Any:
        return np.eye(*lengths, k=k, dtype=dtype)

    @staticmethod
    def arange(*ends: Any, dtype: Any = None) -> Any:
        found = np.arange(*ends)
        return found.astype({"f": np.float32}.get(found.dtype.kind, found.dtype) if dtype is None else dtype)

    @staticmethod
    def linspace(*ends: Any, dtype: Any = None, endpoint: bool = True) -> Any:
        found = np.linspace(*ends, endpoint=endpoint)
        wanted = np.complex64 if found.dtype.kind == "c" else np.float32
        return found.astype(wanted if dtype is None else dtype)

    @staticmethod
    def sort(x: Any, axis: int = -1, descending: bool = False) -> Any:
        return np.flip(np.sort(x, axis=axis), axis=axis) if descending else np.sort(x, axis=axis)

    @staticmethod
    def argsort(x: Any, axis: int = -1, descending: bool = False) -> Any:
        if not descending:
            return np.argsort(x, axis=axis, stable=True)
        backwards = np.argsort(np.flip(x, axis=axis), axis=axis, stable=True)
        return np.flip(x.shape[axis] - 1 - backwards, axis=axis)


class Fourier:
    """numpy's transforms; frequencies are floats of the default dtype."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np.fft, name)

    @staticmethod
    def fftfreq(n: int, d: float = 1.0, dtype: Any = np.float32) -> Any:
        return np.fft.fftfreq(n, d).astype(dtype)

    @staticmethod
    def rfftfreq(n: int, d: float = 1.0, dtype: Any = np.float32) -> Any:
        return np.fft.rfftfreq(n, d).astype(dtype)


REFERENCE = Reference()
