"""Counts the memory that numpy takes for the elements of arrays, exactly: every request, on the calling thread alone.

numpy asks a handler for that memory (NEP 49), one per context and so per thread. The handler here notes every request
and passes it on; views, and arrays over memory that somebody else gave, ask for none.
"""

from __future__ import annotations

import ctypes
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from numpy._core import _multiarray_umath

FUNCTIONS = {"set": (304, ctypes.py_object), "get": (305,)}
"""PyDataMem_SetHandler and PyDataMem_GetHandler: place in the table of numpy's C functions, and arguments."""
MALLOC = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
CALLOC = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
REALLOC = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
FREE = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class _Handler(ctypes.Structure):
    """`PyDataMem_Handler` of version 1."""

    _fields_ = (
        ("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("context", ctypes.c_void_p),
        ("malloc", MALLOC), ("calloc", CALLOC), ("realloc", REALLOC), ("free", FREE),
    )  # fmt: skip


@dataclass
class Requests:
    """What was asked for: bytes and, innermost line first, from where."""

    found: list[tuple[int, str]] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(size for size, _ in self.found)

    def note(self, size: int) -> None:
        lines = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in traceback.extract_stack(limit=7)]
        self.found.append((size, " < ".join(reversed(lines[:-2]))))

    def __str__(self) -> str:
        return "\n".join(f"{size} B {line}" for size, line in self.found)


class _Rank(threading.local):
    """What the calling thread notes."""

    requests: Requests | None = None


_here = _Rank()


_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)


def _function(name: str) -> Any:
    """A function of numpy's for C."""
    place, *arguments = FUNCTIONS[name]
    table = ctypes.cast(_pointer(_multiarray_umath._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    return ctypes.PYFUNCTYPE(ctypes.py_object, *arguments)(table[place])


def _made() -> tuple[Any, ...]:
    """The handler as numpy takes it, which lives as long as the process: arrays remember who gave their memory."""
    own = _Handler.from_address(_pointer(_function("get")(), b"mem_handler"))

    def note(size: int) -> None:
        if _here.requests is not None:
            _here.requests.note(size)

    def malloc(context: Any, size: int) -> Any:
        note(size)
        return own.malloc(context, size)

    def calloc(context: Any, count: int, size: int) -> Any:
        note(count * size)
        return own.calloc(context, count, size)

    def realloc(context: Any, pointer: int, size: int) -> Any:
        note(size)
        return own.realloc(context, pointer, size)

    handler = _Handler(b"counting", 1, own.context, MALLOC(malloc), CALLOC(calloc), REALLOC(realloc), own.free)
    return _capsule(ctypes.byref(handler), b"mem_handler", None), handler


_handler = _made()


@contextmanager
def requests() -> Iterator[Requests]:
    """Inside, the memory for arrays that this thread asks for is noted."""
    set_handler = _function("set")
    before = set_handler(_handler[0])
    _here.requests = found = Requests()
    try:
        yield found
    finally:
        _here.requests = None
        set_handler(before)
