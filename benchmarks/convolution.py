"""Convolutions by every method, one thread, float32: where `flowcore/jit/convolution.py` has its rule from.

    OMP_NUM_THREADS=1 python benchmarks/convolution.py
    OMP_NUM_THREADS=1 python benchmarks/convolution.py --shapes 64x64x56x1 16x64x7x2

A shape is images x channels x pixels x stride.

Per shape (3 × 3 taps, as many channels out as in, or twice as many with stride 2) and per gradient: milliseconds of
processor time, the least of several calls, in tiles and by patches; and with numpy, from channels first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from flowcore.jit import convolution
from flowcore.jit.convolution import Form
from flowcore.jit.table import call
from flowcore.ops.patches import form_product

SHAPES = (
    "64x3x32x1", "64x8x32x1", "64x32x32x1", "64x64x16x1", "64x128x8x1", "64x256x4x1", "64x64x2x1", "64x64x3x1",
    "64x64x5x1", "64x64x7x1", "8x64x56x1", "64x32x32x2", "64x64x16x2", "64x128x8x2", "64x64x7x2", "64x64x12x2",
)  # fmt: skip
CALLS = 5


def least(run: Callable[[], Any]) -> float:
    """Milliseconds of processor time of one call."""
    run()
    found = []
    for _ in range(CALLS):
        began = time.thread_time()
        run()
        found.append((time.thread_time() - began) * 1e3)
    return min(found)


def measure(text: str) -> None:
    """The lines of one shape."""
    n, c, pixels, stride = map(int, text.split("x"))
    o, rows = c * stride, (pixels - 1) // stride + 1
    form = Form(n, 1, c, o, (1, pixels, pixels), (1, rows, rows), (1, 3, 3), (1, stride, stride), (1, 1, 1), (0, 1, 1))
    draw = np.random.default_rng(0)
    first = {"x": (n, c, pixels, pixels), "y": (n, o, rows, rows), "w": (o, c, 3, 3)}
    arrays = {role: draw.normal(size=shape).astype("float32") for role, shape in first.items()}
    terms = {"x": "nc", "y": "no", "w": "oc"}
    for result in "yxw":
        given = {role: array for role, array in arrays.items() if role != result}
        launches = {
            "tiles": convolution.by_tiles(form, result),
            "patches": convolution.by_patches(form, result, "f4"),
        }
        times = {}
        for name, launch in launches.items():
            flat = [given[role].reshape(-1) for role in "xyw" if role in given]
            own = [np.empty(size, "float32") for size in (arrays[result].size, *launch.scratch)]
            times[name] = least(partial(call, launch.kernel, launch.numbers, [*flat, *own]))
        options = (first[result][2:], (stride, stride), (1, 1), (1, 1))
        times["numpy"] = least(partial(form_product, terms, given, result, *options))
        chosen = "tiles" if form.prefers_tiles else "patches"
        shown = "  ".join(f"{name} {value:8.3f}{'*' if name == chosen else ' '}" for name, value in times.items())
        print(f"{text:14} {result}  {shown}", flush=True)


def main() -> None:
    """Measure what the command line names; * marks the method that is chosen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES))
    for shape in parser.parse_args().shapes:
        measure(shape)


if __name__ == "__main__":
    main()
