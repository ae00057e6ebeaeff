"""`flowcore run`: ranks, arguments, exit codes, threads, signals."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flowcore.launch.local import cores

ROOT = Path(__file__).resolve().parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]
Script = Callable[[str], Path]

HELLO = """
import sys
from mpi4py import MPI
sys.stdout.write(f"{MPI.COMM_WORLD.rank} of {MPI.COMM_WORLD.size}: {sys.argv[1:]}\\n")
"""
EXIT = """
import sys
from mpi4py import MPI
MPI.COMM_WORLD.barrier()
sys.exit(7 if MPI.COMM_WORLD.rank == 1 else 0)
"""
THREADS = """
import os, sys
sys.stdout.write(os.environ["OMP_NUM_THREADS"] + " " + os.environ["OPENBLAS_NUM_THREADS"] + "\\n")
"""
SLEEP = """
import os, pathlib, sys, time
from mpi4py import MPI
MPI.COMM_WORLD.barrier()
pathlib.Path(sys.argv[1], f"{MPI.COMM_WORLD.rank}.pid").write_text(str(os.getpid()))
time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie that nobody has buried yet."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(is_true: Callable[[], bool], seconds: float) -> bool:
    """Whether it became true within `seconds`."""
    end = time.monotonic() + seconds
    while not is_true() and time.monotonic() < end:
        time.sleep(0.05)
    return is_true()


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_every_rank_starts_with_the_script_s_arguments(ranks: int, flowcore: Command, script: Script) -> None:
    ran = flowcore("run", "-n", ranks, script(HELLO), "--data", "2", "-n", "a b", "--")
    assert ran.returncode == 0, ran.stderr
    expected = [f"{rank} of {ranks}: ['--data', '2', '-n', 'a b', '--']" for rank in range(ranks)]
    assert sorted(ran.stdout.splitlines()) == expected


def test_a_module_runs_as_under_python_m(flowcore: Command, script: Script) -> None:
    path = script(HELLO)
    path.rename(path.with_name("greeting.py"))
    ran = flowcore("run", "-n", "2", "-m", "greeting", "--x")
    assert sorted(ran.stdout.splitlines()) == ["0 of 2: ['--x']", "1 of 2: ['--x']"], ran.stderr


def test_the_exit_code_of_a_rank_is_the_command_s(flowcore: Command, script: Script) -> None:
    assert flowcore("run", "-n", "2", script(EXIT)).returncode == 7


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("run", "-n", "2", "absent.py"), "script 'absent.py' does not exist"),
        (("run", "-n", "2"), "no program given"),
        (("run", "-n", "0", __file__), "-n 0 ranks"),
        (("run", "--threads", "0", __file__), "--threads 0"),
        (("run", "--mpirun", "no-such-mpirun", __file__), "'no-such-mpirun' is not a program"),
    ],
)
def test_what_cannot_start_is_a_typed_error_and_exit_code_2(
    arguments: tuple[str, ...], text: str, flowcore: Command
) -> None:
    ran = flowcore(*arguments)
    assert ran.returncode == 2
    assert ran.stderr.startswith("flowcore: LaunchError: ") and text in ran.stderr
    assert "Traceback" not in ran.stderr


def test_ranks_share_the_cores_as_threads(flowcore: Command, script: Script) -> None:
    path = script(THREADS)
    assert flowcore("run", "-n", "2", "--threads", "3", path).stdout.splitlines() == ["3 3"] * 2
    own = flowcore("run", "-n", "2", path, OMP_NUM_THREADS="5", OPENBLAS_NUM_THREADS="6")
    assert own.stdout.splitlines() == ["5 6"] * 2
    share = max(1, cores() // 2)
    assert flowcore("run", "-n", "2", path).stdout.splitlines() == [f"{share} {share}"] * 2


@pytest.mark.parametrize("whole_group", [False, True], ids=["the command alone", "the terminal's group"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_every_rank_within_seconds(
    signum: signal.Signals, whole_group: bool, script: Script, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "flowcore.launch", "run", "-n", "2", str(script(SLEEP)), str(tmp_path)]
    process = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    pids = [tmp_path / "0.pid", tmp_path / "1.pid"]
    assert wait_until(lambda: all(path.exists() and path.read_text() != "" for path in pids), 30)
    if whole_group:
        os.killpg(process.pid, signum)
    else:
        process.send_signal(signum)
    assert process.wait(10) == 128 + signum
    assert wait_until(lambda: not any(is_alive(int(path.read_text())) for path in pids), 5)


def test_plain_mpirun_starts_the_same_script(script: Script, tmp_path: Path) -> None:
    mpirun = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert mpirun is not None
    environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command = [mpirun, "-n", "2", sys.executable, str(script(HELLO))]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert sorted(ran.stdout.splitlines()) == ["0 of 2: []", "1 of 2: []"], ran.stderr
