"""Values that one rank refuses are the same typed error on every rank, whatever operator refuses them, and wherever."""

from __future__ import annotations

import pytest

import flowcore as fc
from tests.refused import met, names

for compiles in ():
    pass
