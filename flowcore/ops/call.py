"""`apply` for operators with one result, which is what all operators here have."""

from __future__ import annotations

from collections.abc import Callable

from flowcore import dispatch
from flowcore.tensor import Tensor

apply: Callable[..., Tensor] = dispatch.apply
