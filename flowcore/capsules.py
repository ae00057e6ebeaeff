"""DLPack capsules of numpy arrays, of bfloat16 too, which numpy itself neither gives nor takes.

numpy hands over the bits as unsigned integers; what the capsule says of the dtype is then changed in place, where the
layout of DLPack's structures has it.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from flowcore.dtypes import bfloat16

Array = np.ndarray[Any, Any]
UNSIGNED, BRAIN = 1, 4
"""DLPack's codes of unsigned integers and of bfloat16."""
CODES = {b"dltensor": 20, b"dltensor_versioned": 52}
"""By the name of the capsule the byte of its structure that has the code of the dtype."""


def capsule_of(array: Array, **options: Any) -> Any:
    """What `array.__dlpack__` gives."""
    if array.dtype != bfloat16:
        return array.__dlpack__(**options)
    capsule = array.view(np.uint16).__dlpack__(**options)
    _code(capsule).value = BRAIN
    return capsule


def array_of(x: Any) -> Array:
    """The array of any library with `__dlpack__`, in its memory."""
    bits = _Bits(x)
    array: Array = np.from_dlpack(bits)
    return array.view(bfloat16) if bits.is_brain else array


class _Bits:
    """An array of another library that hands bfloat16 over as unsigned integers."""

    def __init__(self, x: Any) -> None:
        self.x, self.is_brain = x, False

    def __dlpack__(self, **options: Any) -> Any:
        capsule = self.x.__dlpack__(**options)
        code = _code(capsule)
        if code.value == BRAIN and isinstance(bfloat16, np.dtype):
            code.value, self.is_brain = UNSIGNED, True
        return capsule

    def __dlpack_device__(self) -> Any:
        return self.x.__dlpack_device__()


def _code(capsule: Any) -> ctypes.c_uint8:
    """The code of the dtype in a capsule, to be read and written."""
    api = ctypes.pythonapi
    named, pointed = api.PyCapsule_GetName, api.PyCapsule_GetPointer
    named.restype, named.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointed.restype, pointed.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    name = named(capsule)
    return ctypes.c_uint8.from_address(pointed(capsule, name) + CODES[name])
