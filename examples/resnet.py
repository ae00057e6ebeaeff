"""Trains a ResNet on images of 32 × 32 pixels, with the parallelism that its options name.

python examples/resnet.py                                      one rank, synthetic images
python examples/resnet.py --images cifar.npz                   arrays x_train (n, 3, 32, 32) or (n, 32, 32, 3), y_train
python examples/resnet.py --width 64 --blocks 2                ResNet-18
flowcore run -n 4 examples/resnet.py                           data parallel
flowcore run -n 4 examples/resnet.py --model 4                 tensor parallel: inside a block, channels by rank
flowcore run -n 4 examples/resnet.py --model 4 --spatial       rows of the images split; ranks exchange the rows between
flowcore run -n 4 examples/resnet.py --data 2 --model 2        two ways at once
flowcore run -n 4 examples/resnet.py --zero 1                  states split over the data ranks; 3: parameters too

The model is that of He et al. 2016 (arXiv:1512.03385, §4.1) for small images: a 3 × 3 convolution, four stages of
`blocks` residual blocks whose channels double and whose pixels halve from stage to stage, a mean over the pixels, and
a linear layer. By default width 32 and one block a stage: 10 layers, 1,228,970 parameters, 64 million multiplications
an image. Batch normalization sees the whole batch, however that is split.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
import training

import flowcore as fc

COLOURS, CLASSES, STAGES = 3, 10, 4
SYNTHETIC_BATCHES = 20
CHANNELS = {
    "*.conv1.weight": 0, "*.norm1.weight": 0, "*.norm1.bias": 0, "*.norm1.running*": 0, "*.conv2.weight": 1,
}  # fmt: skip
"""Tensor parallel: between the two convolutions of a block every rank has some of the channels."""


@dataclass
class Options(training.Options):
    """What the command line sets."""

    width: int = training.option(32, "channels of the first stage")
    blocks: int = training.option(1, "residual blocks of a stage")
    pixels: int = training.option(32, "height and width of the synthetic images")
    batch: int = training.option(64, "images of a batch, over all ranks")
    spatial: bool = training.option(False, "split the rows of the images over the model axis, instead of channels")
    images: str | None = training.option(None, "file of numpy arrays x_train and y_train; else synthetic images", str)


class Block(fc.nn.Module):
    """Images (n, inputs, h, w) → (n, outputs, h / stride, w / stride): two convolutions, added to a short way."""

    def __init__(self, inputs: int, outputs: int, stride: int, dtype: str) -> None:
        self.conv1 = fc.nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False, dtype=dtype)
        self.norm1 = fc.nn.BatchNorm2d(outputs, dtype=dtype)
        self.conv2 = fc.nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False, dtype=dtype)
        self.norm2 = fc.nn.BatchNorm2d(outputs, dtype=dtype)
        self.is_straight = (inputs, stride) == (outputs, 1)
        if not self.is_straight:
            self.short = fc.nn.Conv2d(inputs, outputs, 1, stride, bias=False, dtype=dtype)
            self.short_norm = fc.nn.BatchNorm2d(outputs, dtype=dtype)

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        y = self.norm2(self.conv2(fc.nn.relu(self.norm1(self.conv1(x)))))
        return fc.nn.relu(y + (x if self.is_straight else self.short_norm(self.short(x))))


class ResNet(fc.nn.Module):
    """Images (n, 3, h, w) → logits (n, 10)."""

    def __init__(self, width: int, blocks: int, dtype: str = "float32") -> None:
        self.conv = fc.nn.Conv2d(COLOURS, width, 3, 1, 1, bias=False, dtype=dtype)
        self.norm = fc.nn.BatchNorm2d(width, dtype=dtype)
        widths = [width << stage for stage in range(STAGES) for _ in range(blocks)]
        before = [width, *widths]
        self.blocks = fc.nn.ModuleList(
            [Block(inputs, outputs, outputs // inputs, dtype) for inputs, outputs in zip(before, widths, strict=False)]
        )
        self.head = fc.nn.Linear(widths[-1], CLASSES, dtype=dtype)

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        x = fc.nn.relu(self.norm(self.conv(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(axis=(2, 3)))


def is_coloured(shape: tuple[int, ...]) -> bool:
    """Whether it is that of images with colours first or last."""
    return len(shape) == 4 and COLOURS in (shape[1], shape[3])


def images(options: Options) -> tuple[Any, Any]:
    """(images (n, 3, h, w), labels (n,)): from the file, or noise around a smooth random pattern per class."""
    if options.images is not None:
        x, y = training.images(options.images, "numbers (n, 3, h, w) or (n, h, w, 3)", is_coloured)
        x = x.transpose(0, 3, 1, 2) if x.shape[-1] == COLOURS else x
        return (x / 127.5 - 1).astype(options.dtype), y.astype(np.int64)
    draw, side = np.random.default_rng(options.seed), options.pixels
    y = draw.integers(CLASSES, size=SYNTHETIC_BATCHES * options.batch)
    coarse = draw.normal(size=(CLASSES, COLOURS, -(-side // 4), -(-side // 4)))
    patterns = coarse.repeat(4, axis=2).repeat(4, axis=3)[..., :side, :side]
    return (patterns[y] + draw.normal(size=(len(y), COLOURS, side, side))).astype(options.dtype), y


def run(options: Options) -> training.Report:
    """Train; collective over all ranks."""
    mesh = training.mesh_of(options)
    fc.manual_seed(options.seed)
    model = ResNet(options.width, options.blocks, options.dtype)
    training.place(model, mesh, options, {} if options.spatial else CHANNELS)
    rows = {"data": fc.S(0), "model": fc.S(2)} if options.spatial else {"data": fc.S(0)}
    loader = fc.data.DataLoader(
        images(options), options.batch, True, options.seed, drop_last=True, placement=mesh, sbp={"data": fc.S(0)}
    )

    def loss(x: fc.Tensor, y: fc.Tensor) -> fc.Tensor:
        return fc.nn.cross_entropy(model(x.to_global(sbp=rows)), y)

    batches = islice(chain.from_iterable(repeat(loader)), options.steps)
    return training.train(options, loss, training.optimizer(model, options), batches)


if __name__ == "__main__":
    sys.exit(training.main(Options, __doc__, run))
