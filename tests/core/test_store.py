"""Compiled loops are kept on disk, loaded where nothing they depend on has changed, and never compiled by an import."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowcore.jit import store
from flowcore.jit.source import Body, Step, Value, kernel
from flowcore.jit.table import call
from flowcore.op import OPS

pytestmark = pytest.mark.skipif(not store.is_available(), reason="no compiler of loops is installed")
DOUBLE = kernel(Body((Value("float32", "rc"),), (Step("map", OPS["add"](), (0, 0), "float32", "rc"),), (1,), (-1,)))


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory of loops, and none loaded."""
    monkeypatch.setattr(store, "DIRECTORY", tmp_path / "loops")
    for kept in (store._compiled, store.runner):
        kept.cache_clear()
    yield tmp_path / "loops"
    for kept in (store._compiled, store.runner):
        kept.cache_clear()


def loaded() -> Any:
    """The loop, as another process would get it."""
    store._compiled.cache_clear()
    entry = store.entry(DOUBLE)
    result = np.empty(6, np.float32)
    assert call(DOUBLE, (2, 3), [np.arange(6, dtype=np.float32), result]) == 0
    np.testing.assert_array_equal(result, 2 * np.arange(6))
    return entry


def test_a_loop_is_compiled_once_and_loaded_after_that(directory: Path) -> None:
    assert not loaded().cache_hits
    names = {path.name for path in directory.rglob("*.nbc")}
    assert len(names) == 2, "the loop, and what calls the rows of a table"
    assert loaded().cache_hits == 1
    assert {path.name for path in directory.rglob("*.nbc")} == names


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda held: held[: len(held) // 2],
    "emptied": lambda held: b"",
    "changed": lambda held: bytes([*held[:-9], held[-9] ^ 1, *held[-8:]]),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", [".py", ".nbc", ".nbi", ".seal"])
def test_a_loop_whose_files_are_damaged_is_compiled_anew(suffix: str, damage: str, directory: Path) -> None:
    loaded()
    files = [file for file in directory.rglob(f"*{suffix}") if store._name(store._text(DOUBLE)) in file.name]
    assert files
    for file in files:
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert not loaded().cache_hits
    assert loaded().cache_hits == 1


def test_where_a_disk_is_full_loops_are_compiled_all_the_same(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert not loaded().cache_hits


def test_a_loop_of_another_version_is_not_loaded(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded()
    monkeypatch.setattr(store, "version", lambda: "another")
    assert not loaded().cache_hits
    assert len(list((directory / "another").rglob("*.nbc"))) > 0


def test_the_version_names_the_generator_and_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    before = store.version.__wrapped__()
    assert before == store.version.__wrapped__()
    monkeypatch.setattr(store.metadata, "version", lambda name: "0")
    assert store.version.__wrapped__() != before


def test_where_no_directory_can_be_made_loops_are_compiled_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", None):
        monkeypatch.setattr(store, "DIRECTORY", place)
        loaded()


def test_a_user_without_a_home_has_no_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert store._cache() is None


def test_importing_flowcore_compiles_nothing_and_does_not_load_the_compiler() -> None:
    code = "import flowcore, sys; print([name for name in ('numba', 'llvmlite') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_new_version_deletes_those_that_nobody_has_used_for_long(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded()
    (folder,) = directory.iterdir()
    for name, age in (("old", 2), ("recent", 0.5), ("busy", 2)):
        (directory / name).mkdir()
        mark = directory / name / store.MARK
        mark.touch()
        used = time.time() - age * store.KEPT_SECONDS
        os.utime(mark, (used, used))
    with (directory / "busy" / store.MARK).open() as file:
        assert store.locked(file, is_shared=True, waits=False)
        monkeypatch.setattr(store, "version", lambda: "newest")
        loaded()
    assert {path.name for path in directory.iterdir()} == {folder.name, "recent", "busy", "newest"}


def test_kernels_that_another_process_compiles_are_left_for_later(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = [
        kernel(Body((Value(dtype, "rc"),), (Step("map", OPS["add"](), (0, 0), dtype, "rc"),), (1,), (-1,)))
        for dtype in ("int32", "int64")
    ]
    order: list[store.Kernel] = []
    make = store.entry
    monkeypatch.setattr(store, "entry", lambda kernel: (order.append(kernel), make(kernel))[1])
    loaded()
    del order[:]
    lock = next(directory.iterdir()) / f"{store._name(store._text(kernels[0]))}.lock"
    with lock.open("w") as file:
        assert store.locked(file, is_shared=False, waits=False)
        assert not store._made_if_free(kernels[0])
    store.prepare(kernels)
    assert order == kernels


def test_the_home_directory_says_where_kernels_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store._cache() == tmp_path / ".cache"
