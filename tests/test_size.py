"""A file is one idea: one that has grown over 400 lines holds two, and is to be split by them."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("placement", "comm", "flowcore", "launch", "tests", "benchmarks", "examples", "tools")
MOST = 400


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_is_longer_than_an_idea(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > MOST} == {}
