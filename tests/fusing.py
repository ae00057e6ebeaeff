"""Compiled functions that fuse everything, for the tests of fused kernels: by numpy in tiles, or by compiled loops."""

from __future__ import annotations

from functools import partial

import pytest

from flowcore import agreed, fused
from flowcore.jit.store import is_available
from flowcore.passes.fuse import fuse
from flowcore.pipeline import Stage

COMPILER = agreed
"""Where ranks choose the passes of their own graphs."""
EXECUTORS = ["tiles", "loops"]
"""numpy in tiles of 16 elements, and compiled loops."""


def fuse_everything(executor: str, patch: pytest.MonkeyPatch, *before: Stage) -> None:
    """Compiled functions run these passes on a rank's graph, and then fuse kernels of any size for this executor."""
    if executor == "loops" and not is_available():
        pytest.skip("no compiler of loops is installed")
    if executor == "tiles":
        patch.setattr(fused, "is_available", lambda: False)
        patch.setattr(fused, "TILE", 16)
    patch.setattr(COMPILER, "LOCAL", (*before, partial(fuse, least=1)))
