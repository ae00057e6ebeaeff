"""Trains an MLP 784-2048-2048-10 on images of digits, with the parallelism that its options name.

python examples/mlp.py                                         one rank, synthetic images
python examples/mlp.py --images mnist.npz                      arrays x_train (n, 28, 28) and y_train (n,)
flowcore run -n 4 examples/mlp.py                              data parallel
flowcore run -n 4 examples/mlp.py --model 4                    tensor parallel
flowcore run -n 4 examples/mlp.py --data 2 --model 2           both
flowcore run -n 4 examples/mlp.py --zero 1                     states split over the data ranks; 3: parameters too
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import chain, islice, repeat
from math import prod
from typing import Any

import numpy as np
import training

import flowcore as fc

PIXELS, CLASSES = 784, 10
SYNTHETIC_BATCHES = 20
SPLITS = {"up.*": 0, "middle.weight": 1}
"""Tensor parallel: the first layer by its rows, the second by the columns that read them."""


@dataclass
class Options(training.Options):
    """What the command line sets."""

    hidden: int = training.option(2048, "width of the hidden layers")
    images: str | None = training.option(None, "file of numpy arrays x_train and y_train; else synthetic images", str)


class MLP(fc.nn.Module):
    """Images (n, 784) → logits (n, 10)."""

    def __init__(self, hidden: int, dtype: str = "float32") -> None:
        self.up = fc.nn.Linear(PIXELS, hidden, dtype=dtype)
        self.middle = fc.nn.Linear(hidden, hidden, dtype=dtype)
        self.down = fc.nn.Linear(hidden, CLASSES, dtype=dtype)

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        return self.down(fc.nn.relu(self.middle(fc.nn.relu(self.up(x)))))


def images(options: Options) -> tuple[Any, Any]:
    """(images (n, 784), labels (n,)): from the file, or one cloud of random points per class."""
    if options.images is not None:
        x, y = training.images(options.images, "numbers (n, 28, 28)", lambda shape: prod(shape[1:]) == PIXELS)
        return (x.reshape(len(x), PIXELS) / 255).astype(options.dtype), y.astype(np.int64)
    draw = np.random.default_rng(options.seed)
    y = draw.integers(CLASSES, size=SYNTHETIC_BATCHES * options.batch)
    centres = draw.normal(size=(CLASSES, PIXELS))
    return (centres[y] + draw.normal(size=(len(y), PIXELS))).astype(options.dtype), y


def run(options: Options) -> training.Report:
    """Train; collective over all ranks."""
    mesh = training.mesh_of(options)
    fc.manual_seed(options.seed)
    model = MLP(options.hidden, options.dtype)
    training.place(model, mesh, options, SPLITS)
    loader = fc.data.DataLoader(
        images(options), options.batch, True, options.seed, drop_last=True, placement=mesh, sbp={"data": fc.S(0)}
    )

    def loss(x: fc.Tensor, y: fc.Tensor) -> fc.Tensor:
        return fc.nn.cross_entropy(model(x), y)

    batches = islice(chain.from_iterable(repeat(loader)), options.steps)
    return training.train(options, loss, training.optimizer(model, options), batches)


if __name__ == "__main__":
    sys.exit(training.main(Options, __doc__, run))
