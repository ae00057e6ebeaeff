"""A program and a number of ranks → the command line and the environment that start it on this machine under MPI.

Two families of launchers exist. Open MPI must be told that root is welcome, that ranks may outnumber cores, and not to
probe for networks (its launch of 2 ranks falls from 1.2 s to 0.2 s). MPICH and its relatives need no flags. The
launcher and the MPI library that mpi4py loads must be of one installation: a mismatch starts many worlds of one rank.
"""

import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType

from flowcore.launch.errors import LaunchError

NAMES = ("mpirun", "mpiexec")
FLAGS = {"openmpi": ("--oversubscribe", "--bind-to", "none"), "mpich": ()}
LIBRARIES = {"openmpi": ("libmpi.so.40", "libmpi.40.dylib"), "mpich": ("libmpi.so.12", "libmpi.12.dylib")}
SETTINGS = {
    "openmpi": {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_pml": "ob1",
        "OMPI_MCA_btl": "^ofi,uct",
        "OMPI_MCA_osc": "^ucx",
    },
    "mpich": {"PYTHONUNBUFFERED": "1"},  # ranks write to pipes; under Open MPI to terminals, a line at a time
}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
RANK_MARKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
RANK_PREFIXES = ("OMPI_", "PMIX_", "PRTE_", "PMI_", "HYDI_", "HYDRA_", "MPI_LOCAL")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FORWARD_AFTER_SECONDS = 0.5


@dataclass(frozen=True)
class Launcher:
    """An MPI launcher: where it stands, and of which family it is ("openmpi" or "mpich")."""

    path: str
    family: str


def find_launcher(wanted: str | None = None) -> Launcher:
    """The launcher `wanted` (a path or a name), else that of this Python's environment, else the first on PATH."""
    if wanted is not None:
        path = shutil.which(wanted)
        if path is None:
            raise LaunchError(f"mpirun {wanted!r} is not a program: give the path of an MPI launcher")
        return Launcher(path, family_of(path))
    own = str(Path(sys.executable).parent)
    for folder in (own, None):
        for name in NAMES:
            path = shutil.which(name, path=folder)
            if path is not None:
                return Launcher(path, family_of(path))
    raise LaunchError(
        f"no MPI launcher found: none of {', '.join(NAMES)} is beside {sys.executable} or on PATH; "
        "pip install 'flowcore[mpi]' brings one, --mpirun names one"
    )


@cache
def family_of(path: str) -> str:
    """The family of the launcher at `path`, by what it says of itself; "mpich" where it does not say Open MPI."""
    try:
        told = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=30, env=rank_environment(os.environ, 1, None)
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(f"{path} --version failed ({error}): give a working MPI launcher with --mpirun") from error
    is_openmpi = any(mark in told.stdout + told.stderr for mark in ("Open MPI", "OpenRTE", "PRRTE"))
    return "openmpi" if is_openmpi else "mpich"


def build_command(launcher: Launcher, ranks: int, program: Sequence[str]) -> list[str]:
    """The command line that starts `program` on `ranks` ranks of this machine."""
    if ranks < 1:
        raise LaunchError(f"-n {ranks} ranks: a world has at least 1 rank")
    return [launcher.path, *FLAGS[launcher.family], "-n", str(ranks), *program]


def python_program(script: str, arguments: Sequence[str], *, is_module: bool = False) -> list[str]:
    """The command line of a Python script or module, for one rank."""
    if is_module:
        return [sys.executable, "-m", script, *arguments]
    if not Path(script).is_file():
        raise LaunchError(f"script {script!r} does not exist: give the path of a Python file, or -m and a module")
    return [sys.executable, script, *arguments]


def build_environment(
    base: Mapping[str, str], launcher: Launcher, ranks: int, threads: int | None = None
) -> dict[str, str]:
    """The environment of the launcher and its ranks; whatever the user has set in `base` stays as it is."""
    environment = rank_environment(base, ranks, threads)
    library = library_of(launcher)
    if library is not None:
        environment.setdefault("MPI4PY_LIBMPI", str(library))
    for name, value in SETTINGS[launcher.family].items():
        environment.setdefault(name, value)
    return environment


def rank_environment(base: Mapping[str, str], ranks: int, threads: int | None) -> dict[str, str]:
    """`base` with threads per rank set, and no trace of a world that this process is a rank of."""
    environment = dict(base)
    if any(mark in base for mark in RANK_MARKS):
        environment = {name: value for name, value in base.items() if not name.startswith(RANK_PREFIXES)}
    for name in THREADS:
        if threads is not None:
            environment[name] = str(threads)
        else:
            environment.setdefault(name, str(max(1, cores() // ranks)))
    return environment


def library_of(launcher: Launcher) -> Path | None:
    """The MPI library installed with `launcher`, if it stands in the usual place: then mpi4py must load that one."""
    prefix = Path(launcher.path).resolve().parent.parent
    for name in LIBRARIES[launcher.family]:
        for found in sorted([*prefix.glob(f"lib*/{name}"), *prefix.glob(f"lib/*/{name}")]):
            return found
    return None


def cores() -> int:
    """Cores this process may use: its affinity, and in a container the quota of its control group (version 2)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return count
    return count if quota == "max" else max(1, min(count, math.ceil(int(quota) / int(period))))


def run_to_end(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run `command` in this terminal and return its exit code; a signal that ends it gives 128 + its number, as in sh.

    A terminal sends Ctrl-C to the launcher as well, and launchers take a second one for "at once, without cleaning up":
    so a signal is passed on only to a launcher that still runs after half a second.
    """
    received: list[int] = []
    process = subprocess.Popen(command, env=environment)

    def forward(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        timer = threading.Timer(FORWARD_AFTER_SECONDS, process.send_signal, (signum,))
        timer.daemon = True
        timer.start()

    previous = {signum: signal.signal(signum, forward) for signum in SIGNALS}
    try:
        code = process.wait()
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
    if received:
        return 128 + received[0]
    return code if code >= 0 else 128 - code
