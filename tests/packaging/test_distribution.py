"""What is installed: only `flowcore/…`, nothing missing, and no other project's module touched."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIBLINGS = ("placement", "comm", "launch")
SECONDS = 180


def succeed(command: Sequence[str | Path], cwd: Path, **variables: str) -> str:
    """Run a command that must succeed; returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that building leaves no trace in the checkout."""
    copy = tmp_path_factory.mktemp("sources") / "checkout"
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("flowcore", *SIBLINGS):
        shutil.copytree(ROOT / name, copy / name, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(sources: Path) -> Path:
    succeed([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", sources.parent], sources)
    return next(sources.parent.glob("flowcore-*.whl"))


def packages_on_disk() -> dict[str, str]:
    """Every package of the checkout by its full name, and its folder."""
    found = {}
    for top in ("flowcore", *SIBLINGS):
        for init in (ROOT / top).rglob("__init__.py"):
            folder = init.parent.relative_to(ROOT)
            name = ".".join(folder.parts)
            found[name if top == "flowcore" else f"flowcore.{name}"] = folder.as_posix()
    return found


def test_every_package_is_listed_in_pyproject() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert sorted(listed["packages"]) == sorted(packages_on_disk())
    assert listed["package-dir"] == {"flowcore": "flowcore"} | {f"flowcore.{name}": name for name in SIBLINGS}


def test_every_folder_with_modules_is_a_package() -> None:
    bare = {
        path.parent.relative_to(ROOT).as_posix()
        for top in ("flowcore", *SIBLINGS)
        for path in (ROOT / top).rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    }
    assert bare == set()


def test_the_core_depends_on_numpy_and_mpi4py_alone() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(need.partition(">")[0] for need in project["dependencies"]) == ["mpi4py", "numpy"]
    assert {"mpi", "jit", "plan", "dev", "all"} <= set(project["optional-dependencies"])


def test_the_wheel_holds_every_module_and_nothing_outside_flowcore(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    folders = packages_on_disk()
    modules = {
        f"{package.replace('.', '/')}/{path.name}"
        for package, folder in folders.items()
        for path in (ROOT / folder).glob("*.py")
    }
    assert inside == modules | {"flowcore/py.typed"}


def test_the_checkout_imports_uninstalled_from_its_root(sources: Path) -> None:
    script = (
        "import flowcore, flowcore.placement, flowcore.comm, flowcore.launch, sys; print(flowcore.comm.__file__);"
        "assert not {'placement', 'comm', 'launch'} & set(sys.modules)"
    )
    assert succeed([sys.executable, "-c", script], sources).strip() == str(sources / "comm" / "__init__.py")


@pytest.mark.parametrize("name", SIBLINGS)
def test_a_bare_import_of_a_sibling_names_the_full_name(name: str, sources: Path) -> None:
    script = f"try: import {name}\nexcept ImportError as error: print(error)"
    assert f"flowcore.{name}" in succeed([sys.executable, "-c", script], sources)


def test_an_installed_wheel_leaves_a_module_named_comm_alone(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    site = Path(succeed([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path).strip())
    (site / "numpy_and_mpi4py.pth").write_text(sysconfig.get_path("platlib") + "\n")
    (site / "comm").mkdir()
    (site / "comm" / "__init__.py").write_text("owner = 'another project'\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    succeed([*pip, "install", "--no-deps", "--no-index", wheel], tmp_path)
    script = "import comm, flowcore.comm; print(comm.owner, flowcore.comm.__file__)"
    assert succeed([python, "-c", script], tmp_path).split("project ")[1].strip() == str(
        site / "flowcore" / "comm" / "__init__.py"
    )
    assert "usage: flowcore" in succeed([home / "bin" / "flowcore", "--help"], tmp_path)
    assert "usage: flowcore" in succeed([python, "-m", "flowcore.launch", "--help"], tmp_path)
    succeed([*pip, "uninstall", "--yes", "flowcore"], tmp_path)
    assert sorted(path.name for path in site.iterdir() if path.name != "__pycache__") == [
        "comm",
        "numpy_and_mpi4py.pth",
    ]
    assert succeed([python, "-c", "import comm; print(comm.owner)"], tmp_path).strip() == "another project"
