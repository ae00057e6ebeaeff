"""The tally of the signatures test, printed at the end of the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

TALLY: list[Any] = []


@pytest.fixture
def tally() -> Iterator[list[Any]]:
    """Where each judged sample is noted: (operator, ranks, sample, verdict)."""
    yield TALLY


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Operators, signatures, unsound, missing, and the exclusions with their reasons."""
    if not TALLY:
        return
    verdicts = [verdict for *_, verdict in TALLY]
    count = {
        key: sum(len(getattr(verdict, key)) for verdict in verdicts)
        for key in ("declared", "unsound", "missing", "implied", "excluded")
    }
    line = terminalreporter.write_line
    terminalreporter.section("signatures against brute force")
    line(f"{len({name for name, *_ in TALLY})} operators, {len(TALLY)} cases of 2 and 3 ranks")
    line(f"{count['declared']} signatures declared, {count['unsound']} unsound, {count['missing']} missing")
    line(f"{count['implied']} implied by them: replicas are partial extrema of themselves, blocks hold windows")
    reasons = {(name, str(found), why) for name, _, _, verdict in TALLY for found, why in verdict.excluded}
    line(f"{count['excluded']} excluded, for {len(reasons)} reasons:")
    for name, found, why in sorted(reasons):
        line(f"  {name} {found}: {why}")
