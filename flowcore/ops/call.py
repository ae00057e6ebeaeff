"""`apply` for operators with one result, and `apply_all` for those with several."""

from __future__ import annotations

from collections.abc import Callable

from flowcore import dispatch
from flowcore.tensor import Tensor

apply: Callable[..., Tensor] = dispatch.apply
apply_all: Callable[..., tuple[Tensor, ...]] = dispatch.apply
