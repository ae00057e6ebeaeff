"""Memory that the ranks of one host share: one anonymous file, mapped by all, that grows without anyone meeting.

The file is a `memfd`: it has no name, so that nothing is left behind however its ranks end, and the size of /dev/shm
does not limit it. It is as long as all ranks' regions could ever be and almost empty: a rank *commits* pages of its own
region when it needs them. Committing fails with an error where memory is short; touching what was committed never does.

The first touch of fresh memory is 20 to 100 times slower than streaming, so what was committed is kept and reused.
Large pieces are collapsed into huge pages where the kernel can (Linux 6.1), which doubles the bandwidth of copies.
"""

from __future__ import annotations

import ctypes
import mmap
import os

HUGE = 2 << 20
"""Bytes of a huge page; regions and what is committed begin at multiples of it."""
ADDRESSES = 1 << 46
"""Bytes of address space that all regions of a host may take."""
PROT_NONE, MAP_FIXED, MAP_NORESERVE, MADV_COLLAPSE = 0, 0x10, 0x4000, 25


class Segment:
    """`ranks` regions of `region` bytes each, mapped at `address`; the words are signed 64-bit integers."""

    def __init__(self, descriptor: int, ranks: int) -> None:
        """Map the file open as `descriptor`; OSError where there is no room for it."""
        self.descriptor, self.ranks, self.region = descriptor, ranks, region_bytes(ranks)
        self.size = ranks * self.region
        os.ftruncate(descriptor, self.size)
        self.address = _map(descriptor, self.size)
        self.buffer = memoryview((ctypes.c_char * self.size).from_address(self.address)).cast("B")
        self.words = self.buffer.cast("q")

    @classmethod
    def create(cls, ranks: int) -> Segment:
        """A new segment."""
        return cls(os.memfd_create("flowcore", os.MFD_CLOEXEC), ranks)

    @classmethod
    def join(cls, pid: int, descriptor: int, ranks: int) -> Segment:
        """The segment that process `pid` of this host has open as `descriptor`."""
        return cls(os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC), ranks)

    def commit(self, offset: int, size: int) -> None:
        """Give `size` bytes from `offset` their pages; OSError where memory is short, and nothing has changed."""
        os.posix_fallocate(self.descriptor, offset, size)

    def collapse(self, offset: int, size: int) -> None:
        """Make huge pages of committed bytes, as far as the kernel can; both at multiples of HUGE."""
        _libc.madvise(self.address + offset, size, MADV_COLLAPSE)


def region_bytes(ranks: int) -> int:
    """Addresses for each of `ranks` ranks: all of the machine's memory, if that many fit."""
    memory = os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE
    return min(memory, ADDRESSES // ranks) // HUGE * HUGE


def _map(descriptor: int, size: int) -> int:
    """The address of a shared mapping of `descriptor`, a multiple of HUGE."""
    reserve = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    found = _libc.mmap(None, size + HUGE, PROT_NONE, reserve, -1, 0)
    if found in (None, _FAILED):
        raise OSError(ctypes.get_errno(), f"cannot reserve {size} bytes of addresses")
    address = -(-found // HUGE) * HUGE
    shared = mmap.MAP_SHARED | MAP_FIXED | MAP_NORESERVE
    if _libc.mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, shared, descriptor, 0) != address:
        raise OSError(ctypes.get_errno(), f"cannot map a shared segment of {size} bytes")
    return int(address)


_FAILED = ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
