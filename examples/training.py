"""What the training examples share: options from a dataclass, the mesh, annotations for ZeRO, and the loop."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

import flowcore as fc


def option(
    default: Any, text: str, kind: type | None = None, choices: Sequence[Any] | None = None, least: int = 1
) -> Any:
    """A field of `Options` that is set on the command line.

    kind: its type, where the default does not tell. choices: what it may be; else a whole number is at least `least`.
    """
    return field(
        default=default, metadata={"help": text, "type": kind or type(default), "choices": choices, "least": least}
    )


def at_least(least: int) -> Callable[[str], int]:
    """What reads a whole number from `least`."""

    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return int(text)

    return number


@dataclass
class Options:
    """What the command line sets in every training example."""

    data: int | None = option(None, "ranks along the data axis of the mesh", int)
    model: int | None = option(None, "ranks along the model axis of the mesh", int)
    zero: int = option(0, "1, 2: split the states along the data axis; 3: the parameters too", choices=range(4))
    eager: bool = option(False, "run operator by operator, not each step as one graph")
    steps: int = option(100, "steps to train")
    batch: int = option(256, "rows of a batch, over all ranks")
    lr: float = option(1e-3, "learning rate")
    dtype: str = option("float32", "dtype of the parameters")
    precision: str | None = option(None, "bf16 or fp16: sums of products are computed so", str)
    compress: str | None = option(None, "bf16 or 1bit: gradients cross ranks so", str)
    warmup: int = option(0, "steps whose gradients cross ranks as they are, before those that --compress", least=0)
    seed: int = option(0, "seed of parameters and data", least=0)
    losses: str | None = option(None, "write the loss of every step to this file, as JSON", str)
    quiet: bool = option(False, "print nothing")


Chosen = TypeVar("Chosen", bound=Options)


@dataclass
class Report:
    """What a training run gives."""

    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    plan: fc.Plan | None = None


def parse(kind: type[Chosen], description: str | None, arguments: list[str] | None = None) -> Chosen:
    """The options of the command line: one per field of `kind`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for item in fields(kind):
        name, text = "--" + item.name.replace("_", "-"), item.metadata["help"]
        if item.metadata["type"] is bool:
            parser.add_argument(name, action="store_true", help=text)
        else:
            shown = f"{text} (default: {item.default})"
            kind_of, choices = item.metadata["type"], item.metadata["choices"]
            read = at_least(item.metadata["least"]) if kind_of is int and choices is None else kind_of
            parser.add_argument(name, type=read, choices=choices, default=item.default, help=shown)
    return kind(**vars(parser.parse_args(arguments)))


def mesh_of(options: Options) -> fc.Placement:
    """The mesh the options name; a size left out is whatever the number of ranks leaves, all of it for `data` first."""
    if max(options.data or 1, options.model or 1) > fc.world_size():
        given = " ".join(f"--{axis} {size}" for axis in ("data", "model") if (size := getattr(options, axis)))
        raise SystemExit(f"{given}: the world has no more than {fc.world_size()} ranks")
    model = options.model or (fc.world_size() // options.data if options.data else 1)
    return fc.Placement.grid(data=options.data or max(fc.world_size() // model, 1), model=model)


def place(model: fc.nn.Module, mesh: fc.Placement, options: Options, splits: Mapping[str, int]) -> None:
    """Lay `model` out: parameters matching a pattern of `splits` split along that dimension over the model axis.

    With zero=3 every parameter is split along its first dimension over the data axis as well.
    """
    own: dict[str, Any] = {"data": fc.S(0)} if options.zero == 3 else {}
    parameters = {name: own for name, _ in model.named_parameters()}
    model.place(mesh, {**parameters, **{pattern: {**own, "model": fc.S(axis)} for pattern, axis in splits.items()}})


def optimizer(model: fc.nn.Module, options: Options) -> fc.optim.AdamW:
    """AdamW whose states are split over the data axis with zero=1 and zero=2, and lie as the parameters otherwise.

    A compiled step keeps no gradient, so between the stages 1 and 2 of ZeRO there is no difference: the gradient is
    reduced straight to the shard that the states have.
    """
    shard = "data" if options.zero in (1, 2) else None
    return fc.optim.AdamW(model.parameters(), lr=options.lr, shard_states=shard)


def images(path: str, wanted: str, fits: Callable[[tuple[int, ...]], bool]) -> tuple[Any, Any]:
    """x_train and y_train (n,) of a file of arrays; SystemExit where x is not of the `wanted` shape, which `fits`."""
    try:
        with np.load(path) as found:
            x, y = found["x_train"], found["y_train"].reshape(-1)
    except (OSError, EOFError, KeyError, TypeError, ValueError, BadZipFile) as error:
        raise SystemExit(f"--images {path}: {error}; it holds x_train and y_train, as np.savez writes them") from None
    if x.dtype.kind not in "biuf" or y.dtype.kind not in "iu" or not fits(x.shape) or len(x) != len(y):
        told = ", ".join(f"{array.dtype}{list(array.shape)}" for array in (x, y))
        raise SystemExit(f"--images {path}: x_train and y_train are {told}; give {wanted} and whole numbers (n,)")
    return x, y


def train(
    options: Options,
    loss_of: Callable[..., fc.Tensor],
    opt: Any,
    batches: Iterable[tuple[fc.Tensor, ...]],
) -> Report:
    """Train on `batches` by `opt`, an optimizer or what has its `step` and `zero_grad`; collective over all ranks."""
    if options.eager and (options.precision or options.compress):
        raise SystemExit("--precision and --compress are choices for a step as a whole: leave --eager out")
    if options.warmup and not options.compress:
        raise SystemExit(f"--warmup {options.warmup} counts the steps before --compress begins: give that too")

    def step(*batch: fc.Tensor) -> fc.Tensor:
        loss = loss_of(*batch)
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    axis = "data" if options.compress == "1bit" else ""
    compression = fc.Compression(options.compress, axis, options.warmup) if options.compress else None
    compiled = fc.compile(step, precision=options.precision, compress=compression)
    chosen, report = step if options.eager else compiled, Report()
    for number, batch in enumerate(batches):
        began = time.perf_counter()
        report.losses.append(chosen(*batch).item())
        report.seconds.append(time.perf_counter() - began)
        if number % max(options.steps // 10, 1) == 0:
            say(options, f"step {number:5}: loss {report.losses[-1]:.4f}, {report.seconds[-1] * 1e3:.1f} ms")
    if not options.eager:
        report.plan = compiled.plan(*batch)
    return report


def say(options: Options, text: str) -> None:
    """Print on rank 0."""
    if not options.quiet and fc.rank() == 0:
        print(text, flush=True)


def main(kind: type[Chosen], description: str | None, run: Callable[[Chosen], Report]) -> int:
    """Run an example with the options of the command line; returns the exit code."""
    options = parse(kind, description)
    try:
        mesh = mesh_of(options)
    except fc.PlacementError as error:
        say(options, f"{Path(sys.argv[0]).name}: {error}")
        return 2
    say(options, f"{fc.world_size()} ranks, mesh {mesh}, {'eager' if options.eager else 'compiled'}, {options.dtype}")
    report = run(options)
    say(options, f"{len(report.losses)} steps in {sum(report.seconds):.1f} s, last loss {report.losses[-1]:.4f}")
    if report.plan is not None:
        say(options, report.plan.explain())
    if options.losses and fc.rank() == 0:
        Path(options.losses).write_text(json.dumps(report.losses))
    return 0
