"""Watches the memory that numpy takes for the elements of arrays, exactly: every request, on the calling thread alone.

numpy asks a handler for that memory (NEP 49), one per context and so per thread. The handlers here pass every request
on: one notes it, the other fills what it got with ones; views, and arrays over memory that somebody else gave, ask for
none.
"""

from __future__ import annotations

import ctypes
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from numpy._core import _multiarray_umath

ONES = 0xFF
"""Bytes that are nan in every dtype of floats, and -1 or the greatest number in those of integers."""
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


def _made(name: bytes, before: Callable[[int], None], after: Callable[[int, int], Any]) -> tuple[Any, ...]:
    """A handler as numpy takes it, which lives as long as the process: arrays remember who gave their memory.

    before(bytes) sees every request, after(address, bytes) the memory whose bytes may be anything.
    """
    own = _Handler.from_address(_pointer(_function("get")(), b"mem_handler"))

    def malloc(context: Any, size: int) -> Any:
        before(size)
        address = own.malloc(context, size)
        if address:
            after(address, size)
        return address

    def calloc(context: Any, count: int, size: int) -> Any:
        before(count * size)
        return own.calloc(context, count, size)

    def realloc(context: Any, pointer: int, size: int) -> Any:
        before(size)
        return own.realloc(context, pointer, size)

    handler = _Handler(name, 1, own.context, MALLOC(malloc), CALLOC(calloc), REALLOC(realloc), own.free)
    return _capsule(ctypes.byref(handler), b"mem_handler", None), handler


def _note(size: int) -> None:
    if _here.requests is not None:
        _here.requests.note(size)


_counting = _made(b"counting", _note, lambda address, size: None)
_filling = _made(b"filling", lambda size: None, lambda address, size: ctypes.memset(address, ONES, size))


@contextmanager
def _handled(handler: Any) -> Iterator[None]:
    """Inside, this thread's memory for arrays comes from `handler`."""
    set_handler = _function("set")
    before = set_handler(handler)
    try:
        yield
    finally:
        set_handler(before)


@contextmanager
def requests() -> Iterator[Requests]:
    """Inside, the memory for arrays that this thread asks for is noted."""
    _here.requests = found = Requests()
    try:
        with _handled(_counting[0]):
            yield found
    finally:
        _here.requests = None


def filled() -> AbstractContextManager[None]:
    """Inside, memory that this thread gets for arrays holds `ONES`."""
    return _handled(_filling[0])
