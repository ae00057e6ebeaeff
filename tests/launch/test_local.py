"""Command lines and environments, without starting anything."""

import sys
from pathlib import Path

import pytest

from flowcore.launch.errors import LaunchError
from flowcore.launch.local import (
    Launcher,
    build_command,
    build_environment,
    cores,
    family_of,
    find_launcher,
    library_of,
    python_program,
)

OPENMPI = Launcher("/opt/openmpi/bin/mpirun", "openmpi")
MPICH = Launcher("/opt/mpich/bin/mpiexec", "mpich")


def place_launcher(folder: Path, name: str = "mpirun", says: str = "mpirun (Open MPI) 5.0.0") -> Path:
    """A program that tells its version as an MPI launcher does."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_open_mpi_is_told_to_oversubscribe_and_not_to_bind() -> None:
    assert build_command(OPENMPI, 4, ["python", "a.py"]) == [
        *("/opt/openmpi/bin/mpirun", "--oversubscribe", "--bind-to", "none", "-n", "4", "python", "a.py")
    ]


def test_mpich_needs_no_flags() -> None:
    assert build_command(MPICH, 2, ["python", "a.py"]) == ["/opt/mpich/bin/mpiexec", "-n", "2", "python", "a.py"]


def test_a_world_has_at_least_one_rank() -> None:
    with pytest.raises(LaunchError, match="-n 0 ranks: a world has at least 1 rank"):
        build_command(MPICH, 0, ["python"])


def test_open_mpi_runs_as_root_and_does_not_probe_networks() -> None:
    environment = build_environment({}, OPENMPI, 2)
    assert environment["OMPI_ALLOW_RUN_AS_ROOT"] == environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] == "1"
    assert environment["OMPI_MCA_pml"] == "ob1"
    assert not any(name.startswith("OMPI_") for name in build_environment({}, MPICH, 2))


def test_what_the_user_set_stays() -> None:
    base = {"OMPI_MCA_pml": "ucx", "OMP_NUM_THREADS": "3", "OTHER": "x"}
    environment = build_environment(base, OPENMPI, 2)
    assert {name: environment[name] for name in base} == base


def test_threads_asked_for_win_over_the_environment() -> None:
    assert build_environment({"OMP_NUM_THREADS": "3"}, MPICH, 2, threads=1)["OMP_NUM_THREADS"] == "1"


def test_threads_are_the_cores_shared_by_the_ranks_and_at_least_one() -> None:
    assert build_environment({}, MPICH, 1)["OMP_NUM_THREADS"] == str(cores())
    assert build_environment({}, MPICH, 10_000)["OMP_NUM_THREADS"] == "1"


def test_a_rank_starts_a_world_of_its_own() -> None:
    base = {"PMIX_RANK": "1", "PMIX_NAMESPACE": "x", "OMPI_COMM_WORLD_SIZE": "2", "HOME": "/home/user"}
    environment = build_environment(base, OPENMPI, 2)
    assert environment["HOME"] == "/home/user"
    assert not {"PMIX_RANK", "PMIX_NAMESPACE", "OMPI_COMM_WORLD_SIZE"} & set(environment)


def test_the_launcher_beside_python_comes_before_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = place_launcher(tmp_path / "venv" / "bin")
    other = place_launcher(tmp_path / "system", "mpiexec", "HYDRA build details")
    monkeypatch.setattr(sys, "executable", str(own.parent / "python"))
    monkeypatch.setenv("PATH", f"{other.parent}:/usr/bin:/bin")
    assert find_launcher() == Launcher(str(own), "openmpi")
    assert find_launcher("mpiexec") == Launcher(str(other), "mpich")
    own.unlink()
    monkeypatch.setenv("PATH", str(other.parent))
    assert find_launcher() == Launcher(str(other), "mpich")


def test_no_launcher_is_an_error_that_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaunchError, match=r"pip install 'flowcore\[mpi\]'"):
        find_launcher()


@pytest.mark.parametrize(
    ("says", "family"),
    [
        ("mpirun (Open MPI) 4.1.4", "openmpi"),
        ("mpirun (Open MPI) 5.0.11", "openmpi"),
        ("prterun (PRRTE) 3.0", "openmpi"),
        ("HYDRA build details:", "mpich"),
        ("Intel(R) MPI Library for Linux* OS", "mpich"),
    ],
)
def test_a_launcher_s_family_is_what_it_says(says: str, family: str, tmp_path: Path) -> None:
    assert family_of(str(place_launcher(tmp_path, says=says))) == family


@pytest.mark.parametrize("folder", ["lib", "lib64", "lib/x86_64-linux-gnu"])
def test_mpi4py_is_pointed_at_the_launcher_s_own_library(folder: str, tmp_path: Path) -> None:
    launcher = Launcher(str(place_launcher(tmp_path / "bin")), "openmpi")
    assert library_of(launcher) is None
    library = tmp_path / folder / "libmpi.so.40"
    library.parent.mkdir(parents=True)
    library.touch()
    assert build_environment({}, launcher, 2)["MPI4PY_LIBMPI"] == str(library)
    assert build_environment({"MPI4PY_LIBMPI": "mine"}, launcher, 2)["MPI4PY_LIBMPI"] == "mine"


def test_a_script_must_exist_and_a_module_need_not_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="does not exist"):
        python_program(str(tmp_path / "absent.py"), [])
    assert python_program("a.b", ["x"], is_module=True) == [sys.executable, "-m", "a.b", "x"]
