"""How much of the time of transfers between hosts is hidden behind computing: steps on two pretended hosts, as a table.

Ranks are threads, and what crosses the pretended hosts takes the time of a link of that speed without the help of a
processor, as over a network card. Each step runs three ways, in interleaved rounds: over a link that takes no time,
waiting for every transfer where it stands, and with transfers under way while ranks compute. Figures are those of the
fastest round, for what else runs on the machine only adds to them; `hidden` is the part of the time waited that the
third way saves.

With --mpi ranks are processes of MPI that pretend two hosts: there is no link, processors carry the messages, and all
that can be hidden is waiting.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np

import flowcore as fc
from flowcore.comm.threads import AT_ONCE, ThreadTransport
from flowcore.passes.overlap import Timetable
from flowcore.placement.machine import Link
from flowcore.world import current

STRATEGIES = {"data": 0, "zero 1": 1, "zero 3": 3}
WAYS = ("no link", "waiting", "beside")


def step_of(zero: int, layers: int, width: int, batch: int) -> Callable[[], fc.Tensor]:
    """A training step of a stack of layers, divided over all ranks."""
    fc.manual_seed(0)
    mesh = fc.Placement(fc.world_size(), ["data"])
    model = fc.nn.Sequential(*(fc.nn.Linear(width, width, bias=False) for _ in range(layers)))
    model.place(mesh, {"*": {"data": fc.S(0)}} if zero == 3 else {})
    optimizer = fc.optim.AdamW(model.parameters(), lr=1e-4, **({"shard_states": "data"} if zero == 1 else {}))
    draw = np.random.default_rng(0)
    x = fc.asarray(draw.normal(size=(batch, width)).astype("float32"), placement=mesh, sbp=fc.S(0))

    @fc.compile
    def step() -> fc.Tensor:
        y = model(x)
        loss = (y * y).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


@contextmanager
def waiting() -> Iterator[None]:
    """Programs made meanwhile wait for every transfer."""

    def nothing(*_: Any) -> Timetable:
        return Timetable()

    with patch("flowcore.lower.timetable", nothing), patch("flowcore.passes.share.timetable", nothing):
        yield


def measured(zero: int, link: Link | None, options: argparse.Namespace) -> tuple[dict[str, float], list[float]]:
    """Seconds of a step by way, on this rank; the losses of the ways after as many steps."""
    transport = current().transport
    is_simulated = isinstance(transport, ThreadTransport)
    ways = WAYS if is_simulated else WAYS[1:]
    everyone = tuple(range(transport.size))
    steps = {}
    for way in ways:
        steps[way] = step_of(zero, options.layers, options.width, options.batch)
        transport.barrier(everyone)
        patches = way == "waiting" and (fc.rank() == 0 or not is_simulated)
        with waiting() if patches else nullcontext():
            transport.barrier(everyone)
            steps[way]()
            transport.barrier(everyone)
        transport.barrier(everyone)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    losses = dict.fromkeys(ways, 0.0)
    for _ in range(options.rounds):
        for way, step in steps.items():
            transport.barrier(everyone)
            if isinstance(transport, ThreadTransport):
                transport.world.link = AT_ONCE if way == "no link" or link is None else link
            transport.barrier(everyone)
            start = time.perf_counter()
            losses[way] = float(step().item())
            transport.barrier(everyone)
            seconds[way].append(time.perf_counter() - start)
    return {way: min(found) for way, found in seconds.items()}, list(losses.values())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gigabits", type=float, nargs="+", default=[5, 10, 25], help="speeds of the link, per second")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--mpi", action="store_true", help="ranks are processes of MPI")
    options = parser.parse_args(arguments)
    print(f"{options.layers} layers of {options.width} × {options.width}, batch {options.batch}, 2 hosts of 1 rank")
    if options.mpi:
        for strategy in options.strategies:
            given = (STRATEGIES[strategy], None, options)
            seconds, _ = fc.launch.run(measured, 2, "mpi", hosts=2, args=given)[0]
            print(f"{strategy:10}" + "".join(f"{way:>10} {found * 1e3:8.1f} ms" for way, found in seconds.items()))
        return
    print(f"{'':10}{'Gbit/s':>8}" + "".join(f"{way + ', ms':>14}" for way in WAYS) + f"{'hidden':>9}")
    for strategy in options.strategies:
        for speed in options.gigabits:
            link = Link(20e-6, 8e-9 / speed)
            found = fc.launch.run(measured, 2, hosts=2, link=link, args=(STRATEGIES[strategy], link, options))
            seconds, losses = found[0]
            assert len(set(losses)) == 1, f"{strategy}: the ways give losses {losses}"
            free, slow, fast = (seconds[way] for way in WAYS)
            hidden = f"{(slow - fast) / (slow - free):9.0%}" if slow > 1.02 * free else f"{'-':>9}"
            figures = "".join(f"{seconds[way] * 1e3:14.1f}" for way in WAYS)
            print(f"{strategy:10}{speed:8g}{figures}{hidden}")


if __name__ == "__main__":
    main()
