"""One rank of `launch.run(..., transport="mpi")`: a folder with a task → this rank's result or exception in it."""

import os
import pickle
import sys
import traceback
from pathlib import Path

from flowcore.launch.errors import LaunchError
from flowcore.launch.processes import ERROR, RESULT, TASK, dump
from flowcore.world import current


def work(folder: Path) -> int:
    """Run the task on this rank; a failure ends the process at once, which makes the launcher end every rank."""
    world = current()
    rank = world.rank
    try:
        fn, args, ranks = pickle.loads((folder / TASK).read_bytes())
        if world.size != ranks:
            raise LaunchError(
                f"{ranks} ranks started and a world of {world.size} found: mpi4py and the launcher belong to "
                "two installations of MPI; install the 'mpi' extra"
            )
        write_whole(folder / RESULT.format(rank), dump(fn(*args), f"the result of rank {rank}"))
    except BaseException as error:
        write_whole(folder / ERROR.format(rank), dump_error(error))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    return 0


def dump_error(error: BaseException) -> bytes:
    """The pickle of an exception with its traceback as a note; of a LaunchError in its place where it has none."""
    error.add_note("".join(traceback.format_exception(error)).rstrip())
    try:
        data = dump(error, "the exception")
        pickle.loads(data)
    except Exception:
        stand_in = LaunchError(f"{type(error).__name__}: {error}")
        stand_in.add_note(error.__notes__[-1])
        return pickle.dumps(stand_in)
    return data


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is either absent or complete."""
    part = path.with_suffix(f".{os.getpid()}")
    part.write_bytes(data)
    part.replace(path)


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1])))
