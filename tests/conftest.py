"""What all tests share: seeds that follow from the test's name, golden texts, and memory that holds nan."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from zlib import crc32

import hypothesis
import numpy as np
import pytest

from tests.poison import poisoned

GOLDEN = Path(__file__).parent / "golden"

# plans are those for the default machine, whatever `flowcore bench comm` has measured here
_nothing_measured = tempfile.TemporaryDirectory()
os.environ["XDG_CACHE_HOME"] = _nothing_measured.name

# the same cases on every rank and in every run: a rank that drew another case would wait for ranks that did not
hypothesis.settings.register_profile("flowcore", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("flowcore")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden texts anew instead of comparing")
    parser.addoption("--poison", action="store_true", help="fill memory that nobody has written to with nan")


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Seed `random` and numpy from the test's id, so that all ranks draw the same."""
    seed = crc32(request.node.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)


@pytest.fixture(autouse=True)
def memory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Under --poison, memory that nobody has written to holds nan."""
    with poisoned() if request.config.getoption("--poison") else nullcontext():
        yield


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the golden one of that name, or write it under --update-golden."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--update-golden"):
            GOLDEN.mkdir(exist_ok=True)
            path.write_text(text + "\n")
        assert path.exists(), f"no golden text {name}: run pytest --update-golden and read what it wrote"
        assert text + "\n" == path.read_text(), f"{name} differs: read the diff, then run pytest --update-golden"

    return compare
