"""Where the matrix product of numpy's own BLAS lies in this process.

Only libraries with 64-bit integers are known by name, as the packages of numpy carry them; where numpy has another,
there is none, and matrix products stay calls of numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import CDLL, c_void_p, cast
from functools import lru_cache
from importlib import import_module
from types import MappingProxyType

NAMES = ("scipy_cblas_{}gemm64_", "cblas_{}gemm64_")
LETTERS = {"f4": "s", "f8": "d"}


@lru_cache(maxsize=1)
def gemm_addresses() -> Mapping[str, int]:
    """The address of C's `cblas_gemm` with 64-bit integers, by kind of elements ("f4", "f8"); empty without one."""
    for name in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):
        try:
            library = CDLL(import_module(name).__file__)  # what it is linked with is found through it
        except (ImportError, OSError):
            continue
        for pattern in NAMES:
            found = {kind: getattr(library, pattern.format(letter), None) for kind, letter in LETTERS.items()}
            addresses = {kind: cast(function, c_void_p).value for kind, function in found.items() if function}
            if all(addresses.get(kind) for kind in LETTERS):
                return MappingProxyType({kind: address for kind, address in addresses.items() if address})
    return MappingProxyType({})


def has_gemm() -> bool:
    """Whether compiled kernels can call the matrix product of numpy's BLAS."""
    return bool(gemm_addresses())
