"""Matrix products by the oneDNN library (the extra `onednn`); those of narrow numbers in float32, rounded once.

A product of given shapes and strides is made once, per thread or per call in a program, and then called with addresses.
It takes as many threads as OpenMP was told to take (OMP_NUM_THREADS). What oneDNN has only its slow reference code for
is refused.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cached_property, lru_cache
from importlib import metadata
from threading import local
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Matrix = tuple[tuple[int, ...], tuple[int, ...]]
"""Lengths, and strides in elements."""
PACKAGE, FILE = "onednn-cpu-gomp", "libdnnl.so.3"
CPU, IN_ORDER, IMPLEMENTATION, SCRATCH_FORM, BY_CALLER = 1, 1, 8, 136, 1
DTYPES = {"float16": 1, "bfloat16": 2, "float32": 3}
SOURCE, WEIGHTS, RESULT, SCRATCH = 1, 33, 17, 80
DIMENSIONS = 12
PACKING, LONG = b"gemm", 512
"""The name of the code for float32 that copies both operands into strips. It takes up to 10 % less time than that which
the library would choose, but where the second operand lies by columns that are longer than this: it reads these across.
"""
PROBE = 64
"""Rows and columns of a product that tells whether those of a dtype are fast."""
MOST = 1024
"""Products that a thread keeps."""

_kept = local()


@lru_cache(maxsize=1)
def library() -> Any:
    """The library; None where it is not installed."""
    try:
        files = metadata.files(PACKAGE) or []
        found = ctypes.CDLL(str(next(file for file in files if file.name == FILE).locate()))
    except (metadata.PackageNotFoundError, StopIteration, OSError):
        return None
    found.dnnl_primitive_desc_query_md.restype = ctypes.c_void_p
    found.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
    return found


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

    def description(self, forms: Sequence[ctypes.c_void_p], name: bytes) -> ctypes.c_void_p:
        """The description of a product by the first code that is called so, or else by the first there is."""
        a, b, c = forms
        options = self.made("primitive_attr_create")
        self.library.dnnl_primitive_attr_set_scratchpad_mode(options, BY_CALLER)
        try:
            found = self.made("matmul_primitive_desc_create", self.engine, a, b, None, c, options)
        finally:
            self.library.dnnl_primitive_attr_destroy(options)
        while name not in self.code(found):
            if self.library.dnnl_primitive_desc_next_impl(found):
                self.library.dnnl_primitive_desc_destroy(found)
                return self.description(forms, b"")
        return found

    def code(self, description: ctypes.c_void_p) -> bytes:
        """The name of the code that a description stands for."""
        name = ctypes.c_char_p()
        self.library.dnnl_primitive_desc_query(description, IMPLEMENTATION, 0, ctypes.byref(name))
        return name.value or b"ref"

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
    """c = a b for operands of one form, in `scratch` bytes besides; not to be called by two threads at a time."""

    def __init__(self, engine: _Engine, dtype: str, matrices: tuple[Matrix, Matrix, Matrix]) -> None:
        library, made, dims = engine.library, engine.made, ctypes.c_int64 * DIMENSIONS
        self.library, self.stream = library, engine.stream
        forms = [
            made("memory_desc_create_with_strides", len(shape), dims(*shape), DTYPES[dtype], dims(*strides))
            for shape, strides in matrices
        ]
        description = engine.description(forms, PACKING if _is_packed(dtype, matrices[1]) else b"")
        is_slow = b"ref" in engine.code(description)
        self.primitive = None if is_slow else made("primitive_create", description)
        if self.primitive is not None:
            form = ctypes.c_void_p(library.dnnl_primitive_desc_query_md(description, SCRATCH_FORM, 0))
            self.scratch: int = library.dnnl_memory_desc_get_size(form)
            self.memories = [made("memory_create", form, engine.engine, None) for form in (*forms, form)]
        library.dnnl_primitive_desc_destroy(description)
        for form in forms:
            library.dnnl_memory_desc_destroy(form)
        if self.primitive is None:
            raise _Failed("reference code")
        pairs = zip((SOURCE, WEIGHTS, RESULT, SCRATCH), self.memories, strict=True)
        self.arguments = (_Argument * 4)(*(_Argument(number, memory) for number, memory in pairs))

    @property
    def words(self) -> tuple[int, ...]:
        """What `jit.foreign.product` takes before arrays, valid as long as this lives."""
        functions = self.library.dnnl_memory_set_data_handle, self.library.dnnl_primitive_execute
        addresses = [ctypes.cast(function, ctypes.c_void_p) for function in functions]
        held: list[Any] = [*addresses, self.primitive, self.stream, *self.memories]
        return (ctypes.addressof(self.arguments), *(handle.value for handle in held))

    def __call__(self, arrays: Sequence[Array]) -> None:
        library = self.library
        for memory, array in zip(self.memories, (*arrays, self._room), strict=True):
            library.dnnl_memory_set_data_handle(memory, ctypes.c_void_p(array.__array_interface__["data"][0]))
        if library.dnnl_primitive_execute(self.primitive, self.stream, 4, self.arguments):
            raise RuntimeError("a matrix product of oneDNN failed: uninstall flowcore[onednn] to do without it")

    @cached_property
    def _room(self) -> Array:
        return np.empty(self.scratch, np.uint8)

    def __del__(self) -> None:
        for memory in getattr(self, "memories", ()):
            self.library.dnnl_memory_destroy(memory)
        if getattr(self, "primitive", None) is not None:
            self.library.dnnl_primitive_destroy(self.primitive)


def _is_packed(dtype: str, right: Matrix) -> bool:
    """Whether copying both operands is the fastest way to a product with `right` as its second."""
    lengths, strides = right
    return dtype == "float32" and (strides[-1] == 1 or lengths[-2] <= LONG)


def _engine() -> _Engine | None:
    """This thread's; None where the library is not installed."""
    found = library()
    if found is not None and getattr(_kept, "engine", None) is None:
        _kept.engine = _Engine(found)
    return getattr(_kept, "engine", None) if found is not None else None


def product(dtype: str, matrices: tuple[Matrix, Matrix, Matrix]) -> _Product | None:
    """The product of such matrices for one caller; None where the library has none that is fast."""
    engine = _engine()
    try:
        return None if engine is None else _Product(engine, dtype, matrices)
    except _Failed:
        return None


@lru_cache(maxsize=len(DTYPES))
def is_fast(dtype: str) -> bool:
    """Whether the library is installed and has fast products of `dtype` for this processor."""
    form = (PROBE, PROBE), (PROBE, 1)
    return dtype in DTYPES and product(dtype, (form, form, form)) is not None


def multiply(a: Array, b: Array, out: Array) -> bool:
    """out = a b, of float16 or bfloat16, with equal leading dimensions; False, and nothing done, where it cannot."""
    engine = _engine() if out.size and a.size and out.ndim <= DIMENSIONS else None
    if engine is None:
        return False
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
