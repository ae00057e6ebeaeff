"""The transports of a world of MPI processes."""

from __future__ import annotations

from collections.abc import Callable

from flowcore.comm.counting import CountingTransport
from flowcore.comm.mpi import MpiTransport
from flowcore.comm.shared import join
from flowcore.comm.transport import Transport

TRANSPORTS: dict[str, Callable[[float], Transport]] = {
    "mpi": lambda timeout: CountingTransport(MpiTransport(timeout)),
    "shared": lambda timeout: join(MpiTransport(timeout)),
    "shared, no inboxes": lambda timeout: join(MpiTransport(timeout), small=0),
    "two hosts": lambda timeout: join(MpiTransport(timeout), [0, 0, 1, 1]),
}
"""Plain MPI, shared memory, the same with small blocks treated as large ones, and two pretended hosts; each from a
timeout in seconds."""
