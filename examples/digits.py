"""Trains an MLP on the handwritten digits bundled with scikit-learn, with the parallelism that its options name.

    python examples/digits.py                                      one rank
    flowcore run -n 4 examples/digits.py                           data parallel
    flowcore run -n 4 examples/digits.py --model 4                 tensor parallel
    flowcore run -n 4 examples/digits.py --data 2 --model 2        both

The model, the optimizer and the loop are the same in all cases: only the annotations in `place` name the mesh. Losses
are equal to those of one rank, up to rounding.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import flowcore as fc

CLASSES = 10
PIXELS = 64
TESTING_ROWS = 360
TRAINING_ROWS = 1797 - TESTING_ROWS


class MLP(fc.nn.Module):
    """Digits (n, 64) → logits (n, 10)."""

    def __init__(self, hidden: int, dtype: str) -> None:
        self.up = fc.nn.Linear(PIXELS, hidden, dtype=dtype)
        self.down = fc.nn.Linear(hidden, CLASSES, dtype=dtype)

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        return self.down(fc.nn.relu(self.up(x)))


@dataclass
class Options:
    """What the command line sets."""

    data: int | None = None
    model: int | None = None
    compiled: bool = True
    epochs: int = 20
    batch: int = 64
    hidden: int = 128
    lr: float = 1e-2
    dtype: str = "float32"
    seed: int = 0
    losses: str | None = None
    steps: int | None = None
    quiet: bool = False


@dataclass
class Report:
    """What a training run gives."""

    losses: list[float] = field(default_factory=list)
    accuracy: float = 0.0
    seconds: float = 0.0
    plan: fc.Plan | None = None


def load_digits(dtype: str) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """(pixels in 0..1, labels) for training and for testing: a fifth, drawn at random but always the same, tests."""
    try:
        from sklearn.datasets import load_digits as bundled
    except ImportError:
        raise SystemExit("this example needs scikit-learn for its data: pip install 'flowcore[examples]'") from None
    digits = bundled()
    x, y = (digits.data / 16).astype(dtype), digits.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    tests, trains = order[:TESTING_ROWS], order[TESTING_ROWS:]
    return (x[trains], y[trains]), (x[tests], y[tests])


def mesh_of(options: Options) -> fc.Placement:
    """The mesh the options name; a size left out is whatever the number of ranks leaves, all of it for `data` first."""
    model = options.model or (fc.world_size() // options.data if options.data else 1)
    return fc.Placement.grid(data=options.data or max(fc.world_size() // model, 1), model=model)


def train(options: Options) -> Report:
    """Train and test; collective over all ranks."""
    mesh = mesh_of(options)
    training, testing = load_digits(options.dtype)
    fc.manual_seed(options.seed)
    model = MLP(options.hidden, options.dtype)
    model.place(mesh, {"up.*": {"model": fc.S(0)}, "down.weight": {"model": fc.S(1)}})
    opt = fc.optim.AdamW(model.parameters(), lr=options.lr)
    schedule = fc.optim.CosineAnnealingLR(opt, options.epochs)

    def step(x: fc.Tensor, y: fc.Tensor) -> fc.Tensor:
        loss = fc.nn.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    compiled = fc.compile(step)
    chosen = compiled if options.compiled else step
    loader = fc.data.DataLoader(
        training, options.batch, shuffle=True, seed=options.seed, placement=mesh, sbp={"data": fc.S(0)}
    )
    report, began = Report(), time.perf_counter()
    for epoch in range(options.epochs):
        batches = islice(loader, options.steps and options.steps - len(report.losses))
        losses = [chosen(x, y).item() for x, y in progress(batches, epoch, options)]
        report.losses += losses
        report.accuracy = accuracy(model, testing, mesh)
        say(options, f"epoch {epoch + 1:2}: loss {np.mean(losses):.4f}, test accuracy {report.accuracy:.2%}")
        schedule.step()
        if len(report.losses) == options.steps:
            break
    report.seconds = time.perf_counter() - began
    report.plan = compiled.plan(*next(iter(loader))) if options.compiled else None
    return report


def accuracy(model: MLP, testing: tuple[Any, Any], mesh: fc.Placement) -> float:
    """The share of test digits that the model names rightly."""
    with fc.no_grad():
        x, y = (fc.asarray(part, placement=mesh, sbp={"data": fc.S(0)}) for part in testing)
        hits = fc.argmax(model.eval()(x), axis=1) == y
        model.train()
        return float(fc.mean(hits.astype("float64")).item())


def progress(batches: Iterable[Any], epoch: int, options: Options) -> Iterable[Any]:
    """The batches, with a progress bar on rank 0."""
    if options.quiet or fc.rank() != 0:
        return batches
    try:
        from tqdm import tqdm
    except ImportError:
        return batches
    total = -(-TRAINING_ROWS // options.batch)
    bar: Iterable[Any] = tqdm(batches, f"epoch {epoch + 1:2}", total, leave=False, unit="step", disable=None)
    return bar


def say(options: Options, text: str) -> None:
    """Print on rank 0."""
    if not options.quiet and fc.rank() == 0:
        print(text, flush=True)


def describe(plan: fc.Plan) -> str:
    """A table of what one step moves: each kind of transfer, how many, bytes, and the least bytes possible."""
    rows = [f"  {'transfer':<28}{'count':>6}{'bytes':>12}{'bound':>12}"]
    rows += [f"  {kind:<28}{n:>6}{moved:>12,}{bound:>12,}" for kind, (n, moved, bound) in plan.summary().items()]
    rows.append(f"  {'in all':<28}{len(plan.transfers):>6}{plan.bytes_moved:>12,}{bound_of(plan):>12,}")
    return "\n".join(rows) if plan.transfers else "  nothing moves between ranks"


def bound_of(plan: fc.Plan) -> int:
    """The bytes that the changes of layout need at least."""
    return sum(transfer.bound for transfer in plan.transfers)


def parse(arguments: list[str] | None = None) -> Options:
    """The options on the command line."""
    parser = argparse.ArgumentParser(description="Train an MLP on handwritten digits.")
    parser.add_argument("--data", type=int, metavar="N", help="ranks along the data axis of the mesh")
    parser.add_argument("--model", type=int, metavar="N", help="ranks along the model axis of the mesh")
    parser.add_argument("--eager", dest="compiled", action="store_false", help="run operator by operator")
    parser.add_argument("--compiled", dest="compiled", action="store_true", help="run each step as one graph (default)")
    parser.add_argument("--epochs", type=int, default=Options.epochs)
    parser.add_argument("--batch", type=int, default=Options.batch, help="rows of a batch, over all ranks")
    parser.add_argument("--hidden", type=int, default=Options.hidden, help="width of the hidden layer")
    parser.add_argument("--lr", type=float, default=Options.lr)
    parser.add_argument("--dtype", choices=("float32", "float64"), default=Options.dtype)
    parser.add_argument("--seed", type=int, default=Options.seed)
    parser.add_argument("--steps", type=int, metavar="N", help="end after N steps")
    parser.add_argument("--losses", metavar="FILE", help="write the loss of every step to FILE, as JSON")
    parser.set_defaults(compiled=True)
    return Options(**vars(parser.parse_args(arguments)))


def main() -> int:
    """Run the example; returns the exit code."""
    options = parse()
    try:
        mesh = mesh_of(options)
    except fc.PlacementError as error:
        say(options, f"digits.py: {error}")
        return 2
    kind = "compiled" if options.compiled else "eager"
    say(options, f"digits on {fc.world_size()} ranks, mesh {mesh}, {kind}, {options.dtype}")
    report = train(options)
    say(options, f"{len(report.losses)} steps in {report.seconds:.1f} s; test accuracy {report.accuracy:.2%}")
    if report.plan is not None:
        say(options, f"one step of the plan, over all ranks:\n{describe(report.plan)}")
    if options.losses and fc.rank() == 0:
        Path(options.losses).write_text(json.dumps(report.losses))
    return 0


if __name__ == "__main__":
    sys.exit(main())
