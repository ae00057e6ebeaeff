"""The main example as a module, and the losses it gives, for the tests of all transports."""

import sys
from functools import cache
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import flowcore as fc

PATH = Path(__file__).resolve().parents[2] / "examples" / "digits.py"
MESHES = [(data, ranks // data) for ranks in (1, 2, 3, 4, 6) for data in range(1, ranks + 1) if ranks % data == 0]
TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
STEPS = 10


@cache
def example() -> ModuleType:
    spec = util.spec_from_file_location("digits_example", PATH)
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def options(data: int | None, model: int | None, compiled: bool, dtype: str) -> Any:
    """The example's options for a few quiet steps."""
    return example().Options(data=data, model=model, compiled=compiled, dtype=dtype, steps=STEPS, quiet=True)


def losses(data: int | None, model: int | None, compiled: bool, dtype: str, ranks: int) -> list[list[float]]:
    """The loss of every step, on every rank."""
    example().load_digits(dtype)  # imported once, before ranks do so together
    arguments = (options(data, model, compiled, dtype),)
    return [report.losses for report in fc.launch.run(example().train, ranks=ranks, args=arguments)]


@cache
def reference(dtype: str) -> list[float]:
    return losses(None, None, False, dtype, 1)[0]
