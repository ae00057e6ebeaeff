"""`flowcore bench comm`: measure what messages and bytes cost between ranks, and keep it for the planner."""

import argparse
from collections.abc import Mapping
from typing import Any

from flowcore.comm.calibrate import cache_file, measure, save
from flowcore.comm.explain import time_text
from flowcore.comm.mpi import under_mpi
from flowcore.launch.errors import LaunchError
from flowcore.launch.local import build_command, build_environment, find_launcher, python_program, run_to_end
from flowcore.placement.machine import Link, Machine
from flowcore.world import current


def add_parser(commands: Any) -> None:
    """Add the grammar of `flowcore bench` to the subparsers `commands`."""
    parser = commands.add_parser(
        "bench",
        help="measure this machine for the planner",
        description="comm: measure seconds per message, per byte and per reduced byte between ranks, and keep them in "
        "the user's cache, where later programs find them. Run it as it is, or on the ranks of several hosts as the "
        "program of an MPI launcher (python -m flowcore.launch bench comm).",
    )
    parser.add_argument("what", choices=["comm"])
    parser.add_argument("-n", "--ranks", type=int, default=2, help="ranks to start (default: 2)")
    parser.add_argument("--mpirun", default=None, metavar="PATH", help="the MPI launcher (default: the first found)")


def bench(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Measure on the ranks of this world, or start some that do; returns an exit code."""
    if not under_mpi(environ):
        if options.ranks < 2:
            raise LaunchError(f"-n {options.ranks}: it takes 2 ranks to measure what lies between them")
        launcher = find_launcher(options.mpirun)
        program = python_program("flowcore.launch", ["bench", options.what], is_module=True)
        command = build_command(launcher, options.ranks, program)
        return run_to_end(command, build_environment(environ, launcher, options.ranks))
    world = current()
    machine = measure(world.transport)
    if world.rank == 0:
        path = cache_file(environ)
        if path is None:
            raise LaunchError("no place to keep the figures: set HOME or XDG_CACHE_HOME")
        try:
            save(machine, path)
        except OSError as error:
            raise LaunchError(f"cannot write {path} ({error.strerror}): name another place, XDG_CACHE_HOME") from error
        print("\n".join((*report(machine, world.size), f"kept in {path}")), flush=True)
    return 0


def report(machine: Machine, ranks: int) -> list[str]:
    """The figures, one a line."""
    hosts = len(set(machine.hosts)) or 1
    lines = [f"{ranks} ranks on {hosts} host{'s' * (hosts > 1)}", f"{'within a host':<16}{link_text(machine.within)}"]
    origin = "" if hosts > 1 else " (not measured: there is one host)"
    return [
        *lines,
        f"{'between hosts':<16}{link_text(machine.between)}{origin}",
        f"{'reduce':<16}{1e-9 / machine.reduce_per_byte:.2f} GB/s",
        f"{'copy':<16}{1e-9 / machine.copy_per_byte:.2f} GB/s",
        f"{'multiply':<16}{1e-9 / machine.per_flop:.1f} GFlop/s",
        f"{'step':<16}{time_text(machine.step)}",
    ]


def link_text(link: Link) -> str:
    """Time per message, and bytes per second."""
    return f"{time_text(link.latency)} per message, {1e-9 / link.seconds_per_byte:.2f} GB/s"
