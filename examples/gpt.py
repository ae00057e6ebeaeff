"""Trains a GPT on a text, with the parallelism that its options name.

    python examples/gpt.py                                         one rank, on the documentation that comes with Python
    python examples/gpt.py --text FILE --layers 6 --heads 6 --width 384 --context 256 --batch 64
    flowcore run -n 4 examples/gpt.py                              data parallel
    flowcore run -n 4 examples/gpt.py --data 2 --model 2           data and tensor parallel
    flowcore run -n 4 examples/gpt.py --model 4 --sequence         between attention and MLP, tokens split over ranks
    flowcore run -n 4 examples/gpt.py --zero 1                     states split over the data ranks; 3: parameters too

The model is GPT-2's (Radford et al. 2019), its head tied to the embedding.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import training

import flowcore as fc

PIECES = re.compile(r" ?\w+|\s|[^\w\s]")
SPLITS = {
    "*.query.*": 0, "*.key.*": 0, "*.value.*": 0, "*.project.weight": 1, "*.up.*": 0, "*.down.weight": 1,
    "tokens.weight": 0,
}  # fmt: skip
"""Tensor parallel: heads and hidden units by rank, the vocabulary too."""


@dataclass
class Options(training.Options):
    """What the command line sets."""

    layers: int = training.option(4, "blocks of attention and MLP")
    heads: int = training.option(8, "attention heads")
    width: int = training.option(256, "width of a token's state")
    context: int = training.option(128, "tokens of a sequence")
    vocabulary: int = training.option(4096, "at most as many different tokens")
    batch: int = training.option(16, "sequences of a batch, over all ranks")
    sequence: bool = training.option(False, "between attention and MLP, split the tokens over the model axis")
    text: str | None = training.option(None, "file to train on", str)


class Attention(fc.nn.Module):
    """States (batch, time, width) → (batch, time, width): each token reads those up to itself."""

    def __init__(self, width: int, heads: int, dtype: str) -> None:
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value, self.project = (fc.nn.Linear(width, width, dtype=dtype) for _ in range(4))

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        batch, time, width = x.shape
        q, k, v = (
            fc.permute_dims(layer(x).reshape((batch, time, self.heads, self.size)), (0, 2, 1, 3))
            for layer in (self.query, self.key, self.value)
        )
        mixed = fc.nn.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.project(fc.permute_dims(mixed, (0, 2, 1, 3)).reshape((batch, time, width)))


class Block(fc.nn.Module):
    """Attention, then an MLP on every token, each added to the states."""

    def __init__(self, options: Options) -> None:
        width, dtype = options.width, options.dtype
        self.attention_norm, self.mlp_norm = (fc.nn.LayerNorm(width, dtype=dtype) for _ in range(2))
        self.attention = Attention(width, options.heads, dtype)
        self.up = fc.nn.Linear(width, 4 * width, dtype=dtype)
        self.down = fc.nn.Linear(4 * width, width, dtype=dtype)
        self.is_sequence_split = options.sequence

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        x = self.lay(x + self.attention(self.attention_norm(x)))
        return self.lay(x + self.down(fc.nn.gelu(self.up(self.mlp_norm(x)), approximate="tanh")))

    def lay(self, x: fc.Tensor) -> fc.Tensor:
        """The states with their tokens split over the model axis, where that is asked for."""
        return x.to_global(sbp={"data": fc.S(0), "model": fc.S(1)}) if self.is_sequence_split else x


class GPT(fc.nn.Module):
    """Token numbers (batch, time) → logits (batch, time, vocabulary) of the token that follows each."""

    def __init__(self, options: Options, vocabulary: int) -> None:
        width, dtype = options.width, options.dtype
        self.tokens = fc.nn.Embedding(vocabulary, width, dtype=dtype)
        self.places = fc.nn.Embedding(options.context, width, dtype=dtype)
        self.blocks = fc.nn.ModuleList([Block(options) for _ in range(options.layers)])
        self.norm = fc.nn.LayerNorm(width, dtype=dtype)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                fc.nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                is_last = name.endswith(("project.weight", "down.weight"))
                fc.nn.init.normal_(parameter, std=0.02 / sqrt(2 * options.layers) if is_last else 0.02)

    def forward(self, ids: fc.Tensor) -> fc.Tensor:
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.tokens.weight.mT


def corpus(path: str | None) -> str:
    """The text of the file, or the documentation that comes with Python."""
    if path is not None:
        try:
            return Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise SystemExit(f"--text {path}: {error}") from None
    from pydoc_data.topics import topics

    return "\n\n".join(topics.values())


def tokenize(text: str, vocabulary: int) -> tuple[Any, list[str]]:
    """(the text as token numbers, the tokens): every character, and the most frequent words until there are enough."""
    characters = sorted(set(text))
    if len(characters) > vocabulary:
        raise SystemExit(f"--vocabulary {vocabulary} is less than the {len(characters)} different characters")
    pieces = PIECES.findall(text)
    words = [piece for piece, _ in Counter(pieces).most_common() if len(piece) > 1]
    tokens = characters + words[: vocabulary - len(characters)]
    number = {token: index for index, token in enumerate(tokens)}
    ids = [i for piece in pieces for i in ([number[piece]] if piece in number else [number[c] for c in piece])]
    return np.array(ids), tokens


def batches(ids: Any, mesh: fc.Placement, options: Options) -> Iterator[tuple[fc.Tensor, fc.Tensor]]:
    """Sequences from random places of the text, and for each token the one that follows it."""
    if len(ids) <= options.context:
        raise SystemExit(f"the text has {len(ids)} tokens: give more than --context {options.context}")
    draw = np.random.default_rng(options.seed)
    for _ in range(options.steps):
        starts = draw.integers(len(ids) - options.context, size=options.batch)
        rows = ids[starts[:, None] + np.arange(options.context + 1)]
        x, y = (fc.asarray(part, placement=mesh, sbp={"data": fc.S(0)}) for part in (rows[:, :-1], rows[:, 1:]))
        yield x, y


def run(options: Options) -> training.Report:
    """Train; collective over all ranks."""
    if options.width % options.heads:
        raise SystemExit(
            f"--heads {options.heads} does not divide --width {options.width}: each head has as many numbers"
        )
    mesh = training.mesh_of(options)
    ids, tokens = tokenize(corpus(options.text), options.vocabulary)
    fc.manual_seed(options.seed)
    model = GPT(options, len(tokens))
    training.place(model, mesh, options, SPLITS)

    def loss(x: fc.Tensor, y: fc.Tensor) -> fc.Tensor:
        return fc.nn.cross_entropy(model(x), y)

    return training.train(options, loss, training.optimizer(model, options), batches(ids, mesh, options))


if __name__ == "__main__":
    sys.exit(training.main(Options, __doc__, run))
