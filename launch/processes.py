"""A function and a number of ranks → what it returned or raised on every rank, each an MPI process of its own.

The function travels to the ranks, and results and exceptions back, as pickles in a folder that lives as long as the
run. `worker.py` is the other side.
"""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flowcore.comm.errors import HangError
from flowcore.launch.errors import LaunchError
from flowcore.launch.local import build_command, build_environment, find_launcher

TASK, RESULT, ERROR = "task.pickle", "result-{}.pickle", "error-{}.pickle"
END_SECONDS = 5.0
TAIL_CHARACTERS = 4000


def run_processes(
    fn: Callable[..., Any], ranks: int, timeout: float | None, args: Sequence[Any], hosts: int = 1
) -> tuple[list[Any], dict[int, BaseException]]:
    """Run `fn` under an MPI launcher; returns the results by rank, and what was raised by rank, in order of time."""
    launcher = find_launcher()
    with tempfile.TemporaryDirectory(prefix="flowcore-") as name:
        folder = Path(name)
        (folder / TASK).write_bytes(dump((fn, tuple(args), ranks), "the function or its arguments"))
        command = build_command(launcher, ranks, [sys.executable, "-m", "flowcore.launch.worker", name])
        environment = build_environment(os.environ, launcher, ranks)
        if hosts > 1:
            environment["FLOWCORE_HOSTS"] = str(hosts)
        environment["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        code = wait_for(command, environment, folder, timeout, ranks)
        sys.stdout.write((folder / "stdout").read_text(errors="replace"))
        failures = read_failures(folder, ranks)
        if failures:
            return [], failures
        complaints = (folder / "stderr").read_text(errors="replace")
        results = {rank: folder / RESULT.format(rank) for rank in range(ranks)}
        missing = [rank for rank, path in results.items() if not path.exists()]
        if code != 0 or missing:
            raise LaunchError(
                f"ranks {missing} of {ranks} ended without a result, exit code {code}; "
                f"{launcher.path} said: {complaints.strip()[-TAIL_CHARACTERS:]}"
            )
        sys.stderr.write(complaints)
        return [pickle.loads(path.read_bytes()) for path in results.values()], {}


def wait_for(
    command: Sequence[str], environment: dict[str, str], folder: Path, timeout: float | None, ranks: int
) -> int:
    """Run `command` with its output in `folder`; returns its exit code, and leaves no process behind in any case."""
    with (folder / "stdout").open("wb") as output, (folder / "stderr").open("wb") as complaints:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=complaints,
            start_new_session=True,
        )
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise HangError(
                f"{ranks} ranks still run after {timeout} s: give a longer timeout or mend the wait"
            ) from error
        finally:
            end_session(process)


def end_session(process: subprocess.Popen[bytes]) -> None:
    """End a launcher that still runs, politely so that it can end its ranks, then everything left in its session."""
    if process.poll() is not None:
        return
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    for pid in session_members(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def session_members(session: int) -> list[int]:
    """The processes of a session, its leader included; where /proc does not tell (not Linux), the leader alone."""
    members = {session}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError):
            fields = stat.read_text().rpartition(")")[2].split()  # state, parent, group, session, ...
            if int(fields[3]) == session:
                members.add(int(stat.parent.name))
    return sorted(members)


def read_failures(folder: Path, ranks: int) -> dict[int, BaseException]:
    """What the ranks raised, in order of time."""
    paths = {rank: folder / ERROR.format(rank) for rank in range(ranks)}
    written = {rank: path for rank, path in paths.items() if path.exists()}
    ordered = sorted(written, key=lambda rank: (written[rank].stat().st_mtime_ns, rank))
    return {rank: pickle.loads(written[rank].read_bytes()) for rank in ordered}


def dump(value: object, what: str) -> bytes:
    """The pickle of `value`: with cloudpickle where it is installed, so that lambdas and local functions travel too."""
    has_cloudpickle = find_spec("cloudpickle") is not None
    pickler: Any = import_module("cloudpickle") if has_cloudpickle else pickle
    try:
        data: bytes = pickler.dumps(value)
    except Exception as error:
        remedy = "use plain data" if has_cloudpickle else "define it in a module, or pip install cloudpickle"
        raise LaunchError(f"{what} cannot be pickled ({error}), and ranks are other processes: {remedy}") from error
    return data
