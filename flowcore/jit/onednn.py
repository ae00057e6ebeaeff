"""Matrix products of narrow numbers by the oneDNN library (the extra `onednn`): in float32, each result rounded once.

A product of given shapes and strides is made once per thread, and then called with addresses. It takes as many threads
as OpenMP was told to take (OMP_NUM_THREADS). What oneDNN has only its slow reference code for is refused.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata
from threading import local
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Matrix = tuple[tuple[int, ...], tuple[int, ...]]
"""Lengths, and strides in elements."""
PACKAGE, FILE = "onednn-cpu-gomp", "libdnnl.so.3"
CPU, IN_ORDER, IMPLEMENTATION = 1, 1, 8
DTYPES = {"float16": 1, "bfloat16": 2}
SOURCE, WEIGHTS, RESULT = 1, 33, 17
DIMENSIONS = 12
MOST = 1024
"""Products that a thread keeps."""

_kept = local()


@lru_cache(maxsize=1)
def library() -> Any:
    """The library; None where it is not installed."""
    try:
        files = metadata.files(PACKAGE) or []
        return ctypes.CDLL(str(next(file for file in files if file.name == FILE).locate()))
    except (metadata.PackageNotFoundError, StopIteration, OSError):
        return None


class _Argument(ctypes.Structure):
    """An operand of a primitive (dnnl_exec_arg_t)."""

    _fields_ = (("number", ctypes.c_int), ("memory", ctypes.c_void_p))


class _Failed(Exception):
    """The library has no such product, or none that is fast."""


class _Engine:
    """The processor and a queue of its own for this thread."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.engine = self.made("engine_create", CPU, ctypes.c_size_t(0))
        self.stream = self.made("stream_create", self.engine, IN_ORDER)
        self.products: dict[Any, _Product | None] = {}

    def made(self, what: str, *arguments: Any) -> ctypes.c_void_p:
        """What the function makes of `arguments`."""
        handle = ctypes.c_void_p()
        if getattr(self.library, f"dnnl_{what}")(ctypes.byref(handle), *arguments):
            raise _Failed(what)
        return handle

    def product(self, dtype: str, matrices: tuple[Matrix, Matrix, Matrix]) -> _Product | None:
        """The product of matrices such as these; None where the library has none that is fast."""
        key = dtype, matrices
        if key not in self.products:
            if len(self.products) >= MOST:
                self.products.clear()
            try:
                self.products[key] = _Product(self, dtype, matrices)
            except _Failed:
                self.products[key] = None
        return self.products[key]


class _Product:
    """c = a b for operands of one form."""

    def __init__(self, engine: _Engine, dtype: str, matrices: tuple[Matrix, Matrix, Matrix]) -> None:
        library, made, dims = engine.library, engine.made, ctypes.c_int64 * DIMENSIONS
        self.library, self.stream = library, engine.stream
        forms = [
            made("memory_desc_create_with_strides", len(shape), dims(*shape), DTYPES[dtype], dims(*strides))
            for shape, strides in matrices
        ]
        a, b, c = forms
        description = made("matmul_primitive_desc_create", engine.engine, a, b, None, c, None)
        name = ctypes.c_char_p()
        library.dnnl_primitive_desc_query(description, IMPLEMENTATION, 0, ctypes.byref(name))
        self.primitive = None if b"ref" in (name.value or b"ref") else made("primitive_create", description)
        library.dnnl_primitive_desc_destroy(description)
        if self.primitive is None:
            raise _Failed("reference code")
        self.memories = [made("memory_create", form, engine.engine, None) for form in forms]
        for form in forms:
            library.dnnl_memory_desc_destroy(form)
        pairs = zip((SOURCE, WEIGHTS, RESULT), self.memories, strict=True)
        self.arguments = (_Argument * 3)(*(_Argument(number, memory) for number, memory in pairs))

    def __call__(self, arrays: Sequence[Array]) -> None:
        library = self.library
        for memory, array in zip(self.memories, arrays, strict=True):
            library.dnnl_memory_set_data_handle(memory, ctypes.c_void_p(array.__array_interface__["data"][0]))
        if library.dnnl_primitive_execute(self.primitive, self.stream, 3, self.arguments):
            raise RuntimeError("a matrix product of oneDNN failed: uninstall flowcore[onednn] to do without it")

    def __del__(self) -> None:
        for memory in getattr(self, "memories", ()):
            self.library.dnnl_memory_destroy(memory)
        if getattr(self, "primitive", None) is not None:
            self.library.dnnl_primitive_destroy(self.primitive)


def multiply(a: Array, b: Array, out: Array) -> bool:
    """out = a b, of float16 or bfloat16, with equal leading dimensions; False, and nothing done, where it cannot."""
    found = library()
    if found is None or not out.size or not a.size or out.ndim > DIMENSIONS:
        return False
    engine = getattr(_kept, "engine", None)
    if engine is None:
        engine = _kept.engine = _Engine(found)
    if out.strides[-1] != out.itemsize and out.shape[-1] != 1:
        # fast code gives rows: the transposed result is the product of the transposed operands
        a, b, out = b.swapaxes(-1, -2), a.swapaxes(-1, -2), out.swapaxes(-1, -2)
    first, second, third = _form(a), _form(b), _form(out)
    if first is None or second is None or third is None:
        return False
    product = engine.product(a.dtype.name, (first, second, third))
    if product is None:
        return False
    product((a, b, out))
    return True


def _form(array: Array) -> Matrix | None:
    """Lengths and strides; None where neither rows nor columns are contiguous, or an element stands for several."""
    size = array.itemsize
    strides = [stride // size for stride in array.strides]
    rows, columns = array.shape[-2:]
    if columns == 1 and rows == 1:
        strides[-2:] = 1, 1
    elif columns == 1:
        strides[-1] = 1 if strides[-2] != 1 else rows
    elif rows == 1:
        strides[-2] = columns if strides[-1] == 1 else 1
    if 1 not in strides[-2:] or any(s <= 0 for s, n in zip(strides, array.shape, strict=True) if n > 1):
        return None
    return array.shape, tuple(max(stride, 1) for stride in strides)
