"""Programs whose ranks read each other's registers, for worlds of threads and of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np

import flowcore as fc
from flowcore.comm.counting import CountingTransport
from flowcore.meeting_op import Post
from flowcore.runtime import Program
from flowcore.world import World, activate, current
from tests.training import perceptron

Array = np.ndarray[Any, Any]
PARTS = ("B", "P", "S0", "S1")


@contextmanager
def unshared() -> Iterator[None]:
    """A world of the same ranks that see no memory of each other."""
    with activate(World(CountingTransport(current().transport), current().machine)):
        yield


def programs(step: Any) -> list[Program]:
    """The programs of a compiled function on this rank."""
    return [variant.program for variant in step.variants(current())]


def meetings(program: Program) -> int:
    """How often a run of a program lets its ranks meet, the meeting before it aside."""
    return sum(isinstance(instruction.node.op, Post) for instruction in program.instructions)


def drawn(shape: Sequence[int], sbp: str, mesh: fc.Placement, dtype: str) -> fc.Tensor:
    """A tensor whose terms differ, drawn on every rank alike."""
    layout = fc.zeros(shape, dtype=dtype, placement=mesh, sbp="B").to_global(sbp=sbp)
    block = layout.to_local()
    at = zip(mesh.coordinate(fc.rank()), sbp.split(","), strict=True)
    draw = np.random.default_rng([*shape, *(index if part != "B" and "P" in sbp else 0 for index, part in at)])
    whole = draw.normal(size=shape, scale=9).astype(dtype)
    if "P" not in sbp:
        return fc.asarray(whole, placement=mesh, sbp="B").to_global(sbp=sbp)
    return fc.from_local(draw.normal(size=block.shape, scale=9).astype(dtype), mesh, sbp, shape=tuple(shape))


def transitions(mesh: fc.Placement, shape: Sequence[int], dtype: str, axes: int, stride: int = 1) -> list[Array]:
    """The blocks of this rank after changes of layout, each read by an operator, and each returned as it is."""
    signatures = [",".join(parts) for parts in product(PARTS, repeat=axes)]
    pairs = list(product(signatures, signatures))[::stride]
    sources = {source: drawn(shape, source, mesh, dtype) for source in dict.fromkeys(a for a, _ in pairs)}

    @fc.compile
    def moved(xs: dict[str, fc.Tensor]) -> list[fc.Tensor]:
        there = [xs[a].to_global(sbp=b) for a, b in pairs]
        return [*there, *(fc.multiply(x, 2) for x in there)]

    moved(sources)
    return [result.to_local() for result in moved(sources)]


def compared(run: Callable[[], Sequence[Array]]) -> None:
    """Whether `run` gives the same bits where ranks see memory of each other and where they do not."""
    found = run()
    with unshared():
        expected = run()
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()


def model_and_step(shard_states: str | None = "data", is_split: bool = False) -> tuple[fc.nn.Module, Any]:
    """A model whose parameters every rank holds, and a step that divides the updates among the ranks, if so said.

    is_split: of the parameters each rank holds a part, and gathers the rest, for the batch has more rows.
    """
    mesh = fc.Placement(fc.world_size(), ["data"])
    if is_split:
        return perceptron((24, 40, 12), 400, placement=mesh, parameters="S0", lr=1e-2)
    return perceptron((24, 40, 12), 13, placement=mesh, lr=1e-2, shard_states=shard_states)


def trained(steps: int = 3, shard_states: str | None = None) -> tuple[list[float], list[Program]]:
    """(losses, the programs) of that step."""
    step = fc.compile(model_and_step(shard_states)[1])
    return [step().item() for _ in range(steps)], programs(step)


def blocks(model: fc.nn.Module) -> list[Array]:
    """What a rank holds of the parameters."""
    return [parameter.to_local() for parameter in model.parameters()]


HOLDERS = {
    "detach": lambda model: [parameter.detach() for parameter in model.parameters()],
    "to_local": lambda model: [parameter.to_local() for parameter in model.parameters()],
    "a slice": lambda model: [parameter.to_local()[1:] for parameter in model.parameters()],
    "state_dict": lambda model: list(model.state_dict().values()),
    "an alias": lambda model: [fc.expand_dims(parameter, axis=0) for parameter in model.parameters()],
}


def seen(held: Sequence[Any]) -> list[Array]:
    """Copies of what is held."""
    return [np.array(one.to_local() if isinstance(one, fc.Tensor) else one) for one in held]


def trained_with_holder(holder: str, who: int, is_split: bool = False) -> list[Array]:
    """The parameters after some steps, in which rank `who` holds earlier ones, and sees that they do not change."""
    model, step = model_and_step(is_split=is_split)
    compiled, held, copies = fc.compile(step), [], []
    for number in range(5):
        compiled()
        some = HOLDERS[holder](model) if number in (0, 2) else []
        if fc.rank() == who:
            held.append(some)
            copies.append(seen(some))
        del some
        if number == 3:
            del held[:1], copies[:1]
        for one, other in zip(held, copies, strict=True):
            for now, then in zip(seen(one), other, strict=True):
                np.testing.assert_array_equal(now, then)
    return [np.array(block) for block in blocks(model)]
