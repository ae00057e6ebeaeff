"""Which compiled kernel convolves how: the method by shape, its source, its numbers and its scratch.

Measured by `benchmarks/convolution.py`: tiles, with few multiplications but work around them, win where they leave at
most three quarters of the multiplications, those for pixels that are in no tile wasted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from flowcore.jit.launch import Kernel, Launch
from flowcore.placement.layout import Shape

TAPS, TILE, BLOCK = 3, 4, 64
"""Taps and pixels of y of a tile along a dimension, and the tiles in hand at once."""
NUMBERS = {1: 6, 2: 9}
"""Per stride the numbers of a tile along a dimension."""
GAIN = 0.75
PATCHES, ROWS = 2**19, (64, 512)
"""Elements of patches that are gathered at once, and the least and the most rows of them."""
NAMES = {"float32": "f4", "float64": "f8"}
METHODS = {"y": "forward", "x": "backward", "w": "correlate"}
BY_TILES = "from flowcore.jit.winograd import by_form\nloop = by_form({!r}, {}, {}, {}, {})\n"
GATHERED = """from flowcore.jit.patches import {name}

@inlined
def loop(rows, {numbers}, a, b, result, turned, patches):
    {name}(rows, {form}, a, b, result, turned, patches)
"""


@dataclass(frozen=True)
class Form:
    """A convolution of x (n, *h, g, c) with w (g, o, c, *k) to y (n, *p, g, o); three spatial dimensions each."""

    n: int
    g: int
    c: int
    o: int
    x: Shape
    y: Shape
    w: Shape
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]

    @property
    def prefers_tiles(self) -> bool:
        """Whether tiles are the fastest, in float32."""
        stride = self.strides[2]
        is_square = self.w == (1, TAPS, TAPS) and self.strides == (1, stride, stride) and stride in NUMBERS
        if (
            not is_square
            or self.g != 1
            or {*self.dilations} != {1}
            or (self.x[0], self.y[0], self.before[0]) != (1, 1, 0)
        ):
            return False
        tiles = -(-self.y[1] // TILE) * -(-self.y[2] // TILE)
        return tiles * NUMBERS[stride] ** 2 < GAIN * prod(self.y) * TAPS * TAPS


def launch(form: Form, result: str, dtype: str) -> Launch:
    """The call that gives "y" from x and w, "x" from y and w, or "w" from x and y, all in `dtype`."""
    if dtype == "float32" and form.prefers_tiles:
        return by_tiles(form, result)
    return by_patches(form, result, NAMES[dtype])


def by_tiles(form: Form, result: str) -> Launch:
    """The same in float32, in tiles."""
    (_, h, w), (_, p, q), (_, top, left), stride = form.x, form.y, form.before, form.strides[2]
    numbers = (form.n, h, w, form.c, p, q, form.o, top, left, BLOCK)
    parity = (0, 0)
    if result == "x":
        # the first rows and columns of y that the first of x depend on
        above, beside = ((TAPS - 1 - before) // stride for before in (top, left))
        numbers = (form.n, p, q, form.o, h, w, form.c, above, beside, BLOCK)
        parity = (top % stride, left % stride)
    count, (reads, makes) = NUMBERS[stride] ** 2, (numbers[3], numbers[6])
    tiles = (count * (BLOCK * channels + 16) for channels in (reads, makes))
    scratch = (count * reads * makes, *tiles, count * max(reads, makes))
    source = BY_TILES.format(result, TAPS, stride, *parity)
    return Launch(Kernel(source, len(numbers), ("f4",) * 7), numbers, (-1,), scratch)


def by_patches(form: Form, result: str, kind: str) -> Launch:
    """The same from gathered patches, of any form."""
    axes = zip(form.x, form.y, form.w, form.strides, form.dilations, form.before, strict=True)
    groups: Sequence[tuple[int, ...]] = ((form.n, form.g, form.c, form.o), *axes)
    width = prod(form.w) * form.c
    rows = min(max(PATCHES // max(width, 1), ROWS[0]), ROWS[1])
    names = [tuple(f"n{place}_{index}" for index in range(len(group))) for place, group in enumerate(groups)]
    text = "(" + ", ".join("(" + ", ".join(group) + ")" for group in names) + ")"
    flat = ", ".join(name for group in names for name in group)
    source = GATHERED.format(name=METHODS[result], numbers=flat, form=text)
    numbers = (rows, *(number for group in groups for number in group))
    scratch = (form.g * form.o * width, rows * width)
    return Launch(Kernel(source, len(numbers), (kind,) * 5), numbers, (-1,), scratch)
