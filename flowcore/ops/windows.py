"""The rows that parts of a result read, where output row p reads the input rows p·stride + k·dilation − before."""

from __future__ import annotations

from dataclasses import dataclass

from flowcore.placement.layout import local_range, window_range
from flowcore.placement.sbp import Split, Window


@dataclass(frozen=True, slots=True)
class Steps:
    """One spatial dimension: `taps` values of k, and how i = p·stride + k·dilation − before."""

    taps: int
    stride: int
    dilation: int
    before: int

    @property
    def reach(self) -> int:
        """From the first tap to the last."""
        return self.dilation * (self.taps - 1)

    def forward(self, axis: int, rows: int) -> Window:
        """The input rows i, along `axis`, that a part of `rows` output rows p reads."""
        return Window(axis, rows, self.stride, 1, -self.before, self.reach - self.before)

    def backward(self, axis: int, rows: int) -> Window:
        """The output rows p, along `axis`, that read a part of `rows` input rows i."""
        return Window(axis, rows, 1, self.stride, self.before - self.reach, self.before)


def split_or_window(window: Window, length: int, parts: int) -> Split | Window:
    """`window` over `length` rows, or the split that gives every rank the same rows."""
    same = all(window_range(window, length, parts, i) == local_range(length, parts, i) for i in range(parts))
    return Split(window.axis) if same else window
