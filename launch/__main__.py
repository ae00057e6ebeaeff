"""The `flowcore` command: a command line → a program started on ranks, or a report on this machine."""

import argparse
import os
import sys
from collections.abc import Sequence

from flowcore.errors import FlowcoreError
from flowcore.launch import bench, boxing
from flowcore.launch.doctor import examine
from flowcore.launch.errors import LaunchError
from flowcore.launch.local import build_command, build_environment, cores, find_launcher, python_program, run_to_end


def build_parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    parser = argparse.ArgumentParser(prog="flowcore", description="Start flowcore programs and examine this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    run = commands.add_parser(
        "run",
        help="run a Python script on several ranks of this machine",
        description="Run a Python script on several ranks of this machine, under MPI.",
        usage="flowcore run [options] [-m] program [arguments ...]",
    )
    run.add_argument("-n", "--ranks", type=int, default=None, help="number of ranks (default: one for each core)")
    run.add_argument("--threads", type=int, default=None, help="threads of each rank (default: cores // ranks)")
    run.add_argument(
        "--transport",
        choices=("shared", "mpi"),
        default=None,
        help="how ranks of one host exchange data: shared memory (default), or MPI as between hosts",
    )
    run.add_argument(
        "--hosts", type=int, default=None, metavar="N", help="pretend N hosts: groups of ranks that share no memory"
    )
    run.add_argument("--mpirun", default=None, metavar="PATH", help="the MPI launcher (default: the first found)")
    run.add_argument("-m", dest="is_module", action="store_true", help="program is a module, as in python -m")
    run.add_argument("program", nargs=argparse.REMAINDER, help="a Python script and its arguments")
    doctor = commands.add_parser(
        "doctor",
        help="report what flowcore finds here, and try 2 ranks",
        description="Report what flowcore finds on this machine, and run a world of 2 ranks.",
    )
    doctor.add_argument("--mpirun", default=None, metavar="PATH", help="the MPI launcher to try")
    boxing.add_parser(commands)
    bench.add_parser(commands)
    return parser


def run(options: argparse.Namespace) -> int:
    """Start the program on its ranks; returns the launcher's exit code."""
    words = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not words:
        raise LaunchError("no program given: flowcore run -n 4 script.py")
    if options.threads is not None and options.threads < 1:
        raise LaunchError(f"--threads {options.threads}: a rank has at least 1 thread")
    program = python_program(words[0], words[1:], is_module=options.is_module)
    ranks = cores() if options.ranks is None else options.ranks
    launcher = find_launcher(options.mpirun)
    command = build_command(launcher, ranks, program)
    environment = build_environment(os.environ, launcher, ranks, options.threads)
    if options.transport is not None:
        environment["FLOWCORE_TRANSPORT"] = options.transport
    if options.hosts is not None:
        if not 1 <= options.hosts <= ranks:
            raise LaunchError(f"--hosts {options.hosts}: {ranks} ranks can pretend to be on 1 to {ranks} hosts")
        environment["FLOWCORE_HOSTS"] = str(options.hosts)
    return run_to_end(command, environment)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the `flowcore` command; returns its exit code: 2 when the command line asks for what cannot be started."""
    options = build_parser().parse_args(arguments)
    try:
        match options.command:
            case "run":
                return run(options)
            case "boxing":
                return boxing.explain(options)
            case "bench":
                return bench.bench(options, os.environ)
            case _:
                return examine(options.mpirun)
    except FlowcoreError as error:
        print(f"flowcore: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # who read the output, as `head` does, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
