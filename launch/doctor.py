"""This machine → a report: what flowcore runs on, which MPI it finds, and whether 2 ranks meet in one world."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time

from flowcore.launch.errors import LaunchError
from flowcore.launch.local import Launcher, build_command, build_environment, cores, find_launcher, library_of

HELLO = "from mpi4py import MPI; w = MPI.COMM_WORLD; print(f'hello {w.allreduce(1)} of', MPI.Get_library_version())"
HELLO_TIMEOUT_SECONDS = 60.0
PACKAGES = ("flowcore", "numpy", "mpi4py", "openmpi", "mpich", "numba", "highspy", "cloudpickle")


def examine(wanted: str | None = None) -> int:
    """Print the report, one fact a line; returns 0 when 2 ranks met in one world, else 1."""
    for name, value in facts():
        print(f"{name:<14}{value}")
    try:
        launcher = find_launcher(wanted)
        print(f"{'launcher':<14}{launcher.path} ({launcher.family})")
        print(f"{'MPI library':<14}{library_of(launcher) or 'as mpi4py finds it'}")
        print(f"{'2 ranks':<14}{hello(launcher)}")
    except LaunchError as error:
        print(f"{'2 ranks':<14}failed: {error}")
        return 1
    return 0


def facts() -> list[tuple[str, str]]:
    """What there is to know without starting anything: (name, value) pairs."""
    found = [("python", f"{platform.python_version()} at {sys.executable}"), ("system", platform.platform())]
    for package in PACKAGES:
        found.append((package, version_of(package)))
    found.append(("cores", str(cores())))
    shared = "/dev/shm"
    if os.path.isdir(shared):
        usage = shutil.disk_usage(shared)
        found.append((shared, f"{usage.free / 2**20:.0f} of {usage.total / 2**20:.0f} MiB free"))
    else:
        found.append((shared, "not there"))
    return found


def version_of(package: str) -> str:
    """The installed version of a distribution, or "not installed"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def hello(launcher: Launcher) -> str:
    """Start 2 ranks and let them count each other; says how long it took, LaunchError where they do not meet."""
    command = build_command(launcher, 2, [sys.executable, "-c", HELLO])
    start = time.perf_counter()
    try:
        ran = subprocess.run(
            command,
            env=build_environment(os.environ, launcher, 2),
            capture_output=True,
            text=True,
            timeout=HELLO_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise LaunchError(f"2 ranks did not end within {HELLO_TIMEOUT_SECONDS:.0f} s: try another --mpirun") from error
    seconds = time.perf_counter() - start
    if ran.returncode != 0:
        raise LaunchError(f"exit code {ran.returncode}: {(ran.stderr or ran.stdout).strip()[-2000:]}")
    if ran.stdout.count("hello 2 of") != 2:
        raise LaunchError(
            f"the ranks did not meet ({ran.stdout.strip()!r}): mpi4py loads the library of another MPI than "
            f"{launcher.path}; install the 'mpi' extra, or name the launcher that fits with --mpirun"
        )
    library = ran.stdout.partition("hello 2 of ")[2].splitlines()[0].partition(",")[0].strip()
    return f"met in {seconds:.2f} s over {library}"
