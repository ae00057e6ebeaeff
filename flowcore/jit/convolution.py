"""Which compiled kernel convolves how: the method by shape, its source, its numbers and its scratch.

Measured by `benchmarks/convolution.py`: Winograd's method wins wherever its tiles, of 4 × 4 pixels, compute less than
three times the pixels there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from flowcore.jit.launch import Kernel, Launch
from flowcore.placement.layout import Shape

BLOCK = 64
"""Tiles in hand at once, of Winograd's method."""
PATCHES, ROWS = 2**19, (64, 512)
"""Elements of patches that are gathered at once, and the least and the most rows of them."""
NAMES = {"float32": "f4", "float64": "f8"}
METHODS = {"y": "forward", "x": "backward", "w": "correlate"}
WINOGRAD = "from flowcore.jit.winograd import {} as loop\n"
GATHERED = """from flowcore.jit.patches import exact, {name}
@exact
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
    def by_tiles(self) -> bool:
        """Whether Winograd's method is the fastest, in float32."""
        if self.g != 1 or self.w != (1, 3, 3) or (self.x[0], self.y[0], self.before[0]) != (1, 1, 0):
            return False
        tiles = -(-self.y[1] // 4) * -(-self.y[2] // 4)
        return {*self.strides, *self.dilations} == {1} and 16 * tiles < 3 * prod(self.y)


def launch(form: Form, result: str, dtype: str) -> Launch:
    """The call that gives "y" from x and w, "x" from y and w, or "w" from x and y, all in `dtype`."""
    if dtype == "float32" and form.by_tiles:
        return _by_tiles(form, result)
    return _by_patches(form, result, NAMES[dtype])


def _by_tiles(form: Form, result: str) -> Launch:
    (_, h, w), (_, p, q), (_, top, left) = form.x, form.y, form.before
    c, o = form.c, form.o
    shape: tuple[int, ...] = (form.n, h, w, c, p, q, o, top, left)
    if result == "x":
        shape = (form.n, p, q, o, h, w, c, 2 - top, 2 - left)
    numbers = (*shape, BLOCK) if result == "w" else (*shape, result == "x", BLOCK)
    reads, makes = (o, c) if result == "x" else (c, o)
    scratch = (36 * c * o, 36 * (BLOCK * reads + 16), 36 * (BLOCK * makes + 16), 36 * max(c, o))
    source = WINOGRAD.format("correlate" if result == "w" else "convolve")
    return Launch(Kernel(source, len(numbers), ("f4",) * 7), tuple(map(int, numbers)), (-1,), scratch)


def _by_patches(form: Form, result: str, kind: str) -> Launch:
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
