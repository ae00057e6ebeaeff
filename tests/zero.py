"""A step of ZeRO 3 and the memory that theory grants it, for worlds of threads and of processes.

Theory counts, per rank of p, for L linear layers of width n with Adam on a batch of b rows in float32:

* states / p: parameters and both moments, 3 L (n² + n) numbers, and the batch, b n;
* activations of the rank's rows: of every layer but the last what the next one reads, 4 bytes an element, and the
  sign that the derivative of relu asks for, 1 byte an element;
* what the backward pass of the last layer works on while all of these are alive: the gradients of what it gives and
  of what it reads, and the gradient of its weights, whole, since every rank has a term of all of it.

No gathered parameter is counted: the ranks of a host see each other's parts, so that there is one copy per host. Nor
are gradients that wait for the update.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import flowcore as fc
from flowcore.memory import ALIGNMENT
from flowcore.world import current
from tests.allocations import requests

NUMBER = 4
"""Bytes of a float32."""


@dataclass(frozen=True)
class Sizes:
    """Of the model and its batch."""

    layers: int
    width: int
    rows: int

    def theory(self, ranks: int) -> int:
        """Bytes of a rank at the peak of a step."""
        weights, rows = self.width**2 * NUMBER, self.rows // ranks
        states = 3 * self.layers * (weights + self.width * NUMBER) // ranks
        layer = rows * self.width
        activations = (self.layers - 1) * layer * (NUMBER + 1)
        return states + layer * NUMBER + activations + 2 * layer * NUMBER + weights


TABLE = {
    Sizes(8, 384, 768): 1.1, Sizes(6, 512, 512): 1.1, Sizes(6, 512, 128): 1.1,
    Sizes(12, 128, 1024): 1.12, Sizes(8, 384, 256): 1.12, Sizes(4, 256, 128): 1.18,
}  # fmt: skip
"""Sizes and the most that the peak of two ranks is of theory."""


@dataclass(frozen=True)
class Measured:
    """plan: the peak that the plan tells. held: the bytes that are there after some steps. asked: those that a step
    takes. losses: of the steps.
    """

    plan: int
    held: int
    asked: int
    losses: tuple[float, ...]


def measured(sizes: Sizes, steps: int = 4) -> Measured:
    """What this rank holds in a step of ZeRO 3 on all ranks."""
    mesh = fc.Placement.grid(data=fc.world_size())
    fc.manual_seed(0)
    layers = [(fc.nn.Linear(sizes.width, sizes.width), fc.nn.ReLU()) for _ in range(sizes.layers)]
    model = fc.nn.Sequential(*(part for pair in layers for part in pair))
    model.place(mesh, {"*": fc.S(0)})
    opt = fc.optim.Adam(model.parameters(), lr=1e-3)
    draw = np.random.default_rng(0).normal(size=(sizes.rows, sizes.width)).astype("float32")
    x = fc.asarray(draw, placement=mesh).to_global(sbp=fc.S(0))

    @fc.compile
    def step(x: fc.Tensor) -> fc.Tensor:
        loss = fc.mean(fc.square(model(x)))
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    losses = tuple(step(x).item() for _ in range(steps))
    with requests() as noted:
        step(x)
    states = [tensor for tensor in _tensors(opt.state_dict()) if tensor.block is not None]
    held = sum(tensor.to_local().nbytes for tensor in (x, *model.parameters(), *states))
    world = current()
    window = sum(len(memory) + ALIGNMENT for windows in world.windows.values() for memory in [windows[world.rank]])
    return Measured(step.plan(x).peak_bytes, held + world.memory.take(0).size + window, noted.bytes, losses)


def _tensors(tree: Any) -> list[fc.Tensor]:
    if isinstance(tree, fc.Tensor):
        return [tree]
    every = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
    return [tensor for each in every for tensor in _tensors(each)]


if __name__ == "__main__":
    print("| layers × width, batch | theory | peak | |\n|---|---|---|---|")
    for sizes in TABLE:
        theory, plan = sizes.theory(ranks=2), fc.launch.run(measured, ranks=2, args=(sizes,))[0].plan
        over = 100 * (plan / theory - 1)
        print(f"| {sizes.layers} × {sizes.width}, {sizes.rows} | {theory:,} B | {plan:,} B | +{over:.1f} % |")
