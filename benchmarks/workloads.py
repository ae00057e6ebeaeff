"""The models of the training benchmark as plain numbers: sizes, initial weights and batches, the same for everyone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

BATCHES = 4
LEARNING_RATE = 1e-3
TABLE_RATE = 0.1


@dataclass(frozen=True)
class MLP:
    """An MLP on `batch` rows."""

    sizes: tuple[int, ...]
    batch: int

    def weights(self) -> dict[str, Any]:
        """Initial weights (outputs, inputs) and biases by name."""
        draw, found = np.random.default_rng(0), {}
        for name, inputs, outputs in zip(("up", "middle", "down"), self.sizes, self.sizes[1:], strict=False):
            found[f"{name}.weight"] = draw.uniform(-1, 1, (outputs, inputs)).astype("float32") / np.sqrt(
                inputs, dtype="f4"
            )
            found[f"{name}.bias"] = np.zeros(outputs, "float32")
        return found

    fused_weights = weights

    def batches(self) -> list[tuple[Any, Any]]:
        """Random rows and classes."""
        draw = np.random.default_rng(1)
        shape = (self.batch, self.sizes[0])
        return [
            (draw.normal(size=shape).astype("float32"), draw.integers(self.sizes[-1], size=self.batch))
            for _ in range(BATCHES)
        ]


@dataclass(frozen=True)
class GPT:
    """A GPT on `batch` sequences of `context` tokens."""

    layers: int
    heads: int
    width: int
    context: int
    vocabulary: int
    batch: int

    def weights(self) -> dict[str, Any]:
        """Initial weights by the names that the example gives them."""
        width, draw = self.width, np.random.default_rng(0)
        shapes = {"tokens.weight": (self.vocabulary, width), "places.weight": (self.context, width)}
        for i in range(self.layers):
            linears = {f"attention.{name}": (width, width) for name in ("query", "key", "value", "project")}
            linears |= {"up": (4 * width, width), "down": (width, 4 * width)}
            for name, shape in linears.items():
                shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
            for name in ("attention_norm", "mlp_norm"):
                shapes |= {f"blocks.{i}.{name}.weight": (width,), f"blocks.{i}.{name}.bias": (width,)}
        shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
        return {name: self._initial(name, shape, draw) for name, shape in shapes.items()}

    def fused_weights(self) -> dict[str, Any]:
        """The weights with those of query, key and value as one."""
        found, weights = {}, self.weights()
        for name, value in weights.items():
            if ".query." in name:
                parts = [weights[name.replace("query", part)] for part in ("query", "key", "value")]
                found[name.replace("attention.query", "qkv")] = np.concatenate(parts)
            elif ".key." not in name and ".value." not in name:
                found[name.replace("attention.project", "project")] = value
        return found

    def _initial(self, name: str, shape: tuple[int, ...], draw: np.random.Generator) -> Any:
        if len(shape) == 2:
            return (draw.normal(size=shape) * 0.02).astype("float32")
        return np.full(shape, name.endswith("norm.weight"), "float32")

    def batches(self) -> list[tuple[Any, Any]]:
        """Random tokens, and those that follow them."""
        draw = np.random.default_rng(1)
        rows = [draw.integers(self.vocabulary, size=(self.batch, self.context + 1)) for _ in range(BATCHES)]
        return [(row[:, :-1].copy(), row[:, 1:].copy()) for row in rows]


@dataclass(frozen=True)
class ResNet:
    """A ResNet on `batch` images of `pixels` × `pixels`, of four stages, as `examples/resnet.py` describes it."""

    width: int
    blocks: int
    pixels: int
    batch: int
    classes: int = 10

    @property
    def widths(self) -> list[tuple[int, int]]:
        """Channels into and out of every block."""
        outputs = [self.width << stage for stage in range(4) for _ in range(self.blocks)]
        return list(zip([self.width, *outputs], outputs, strict=False))

    def weights(self) -> dict[str, Any]:
        """Initial parameters by the names that the example gives them."""
        draw, shapes = np.random.default_rng(0), {"conv.weight": (self.width, 3, 3, 3), "norm": (self.width,)}
        for i, (inputs, outputs) in enumerate(self.widths):
            block = {"conv1.weight": (outputs, inputs, 3, 3), "conv2.weight": (outputs, outputs, 3, 3)}
            block |= {"norm1": (outputs,), "norm2": (outputs,)}
            if inputs != outputs:
                block |= {"short.weight": (outputs, inputs, 1, 1), "short_norm": (outputs,)}
            shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
        shapes |= {"head.weight": (self.classes, self.widths[-1][1])}
        found = {}
        for name, shape in shapes.items():
            if name.endswith("norm") or name[-1] in "12":
                found |= {f"{name}.weight": np.ones(shape, "float32"), f"{name}.bias": np.zeros(shape, "float32")}
            else:
                scale = np.sqrt(2 / np.prod(shape[1:]))
                found[name] = (draw.normal(size=shape) * scale).astype("float32")
        return found | {"head.bias": np.zeros(self.classes, "float32")}

    fused_weights = weights

    def batches(self) -> list[tuple[Any, Any]]:
        """Random images and classes."""
        draw = np.random.default_rng(1)
        shape = (self.batch, 3, self.pixels, self.pixels)
        return [
            (draw.normal(size=shape).astype("float32"), draw.integers(self.classes, size=self.batch))
            for _ in range(BATCHES)
        ]


@dataclass(frozen=True)
class WideDeep:
    """Tables of `rows` categories, `fields` of them in an example, and an MLP, as `examples/wide_deep.py` describes it.

    The tables are trained by plain gradient descent, which every contender does row by row; the MLP by Adam.
    """

    rows: int
    width: int
    fields: int
    hidden: int
    batch: int
    numbers: int = 13
    classes: int = 2
    tables: tuple[str, ...] = ("wide.weight", "deep.weight")

    def weights(self) -> dict[str, Any]:
        """Initial parameters by the names that the example gives them."""
        draw = np.random.default_rng(0)
        sizes = (self.fields * self.width + self.numbers, self.hidden, self.hidden // 2, self.classes)
        found = {"wide.weight": np.zeros((self.rows, self.classes), "float32")}
        found["deep.weight"] = draw.standard_normal((self.rows, self.width), "float32") * np.float32(0.05)
        for name, inputs, outputs in zip(("up", "middle", "down"), sizes, sizes[1:], strict=False):
            found[f"{name}.weight"] = draw.uniform(-1, 1, (outputs, inputs)).astype("float32") / np.float32(inputs**0.5)
            found[f"{name}.bias"] = np.zeros(outputs, "float32")
        return found

    fused_weights = weights

    def batches(self) -> list[tuple[Any, ...]]:
        """Random categories, numbers and classes."""
        draw = np.random.default_rng(1)
        return [
            (
                draw.integers(self.rows, size=(self.batch, self.fields)),
                draw.normal(size=(self.batch, self.numbers)).astype("float32"),
                draw.integers(self.classes, size=self.batch),
            )
            for _ in range(BATCHES)
        ]


WORKLOADS: dict[str, MLP | GPT | ResNet | WideDeep] = {
    "mlp": MLP((784, 2048, 2048, 10), 256),
    "gpt": GPT(4, 8, 256, 128, 4096, 16),
    "resnet": ResNet(32, 1, 32, 64),
    "wide_deep": WideDeep(1_000_000, 64, 26, 512, 1024),
    "tiny": MLP((64, 64, 10), 32),
}
