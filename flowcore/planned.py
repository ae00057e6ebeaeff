"""A plan as a value: the physical graph of a step, what it moves and why, as figures and as text that reads back."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from flowcore.boxing_op import Boxing
from flowcore.carried import carried
from flowcore.comm.boxing import BoxingPlan
from flowcore.comm.price import seconds
from flowcore.computing import computing_seconds
from flowcore.dtypes import DType
from flowcore.errors import GraphError, MemoryLimitError
from flowcore.footprint import Footprint, footprint
from flowcore.fusion import Fusion, fusion
from flowcore.graph import Graph, Node, digest_of
from flowcore.passes.donate import Update
from flowcore.passes.regather import regathered
from flowcore.placement.layout import Layout, Shape
from flowcore.placement.machine import Machine
from flowcore.predicted import Predicted, predicted
from flowcore.region import Region
from flowcore.text import parse_graph, write_graph

UPDATES, HOSTS, DIGEST = "updates:", "hosts:", "digest:"
"""What stands in a file before the positions of inputs and of the outputs that replace them, and before the hosts."""


@dataclass(frozen=True)
class Transfer:
    """One change of layout: bytes received over all ranks, the least possible, why it is there and for which line.

    `seconds`: what it is predicted to take on the plan's machine.
    """

    kind: str
    tensor: str
    shape: Shape
    dtype: DType
    source: Layout
    target: Layout
    bytes: int
    bound: int
    messages: int
    seconds: float
    reason: str
    where: str
    times: int = 1
    """How often it is done, which bytes and messages count; in a branch, or a loop that ends when it will, 1."""
    how: str = ""
    """What it becomes in a compiled program (`carried`)."""

    def repeated(self, times: int, when: str) -> Transfer:
        """The same transfer in a body that runs so often."""
        return replace(
            self, bytes=self.bytes * times, bound=self.bound * times, messages=self.messages * times,
            seconds=self.seconds * times, times=self.times * times, reason=f"{self.reason}; {when}",
        )  # fmt: skip

    def __str__(self) -> str:
        return (
            f"{self.kind}: {self.tensor} {self.dtype}{list(self.shape)} {self.source} → {self.target}, "
            f"{self.bytes} B (bound {self.bound} B), {self.messages} messages, about {self.seconds * 1e6:.0f} µs; "
            f"{self.reason}; {self.where}{f'; {self.how}' if self.how else ''}"
        )


@dataclass(frozen=True)
class Plan:
    """What all ranks together run in one step; `machine`: what times are predicted for, the default one once loaded."""

    graph: Graph
    machine: Machine = field(default=Machine(), compare=False)
    updates: tuple[Update, ...] = ()
    """Pairs (input, output) of positions: that output replaces that input, in its memory where it can."""
    hosts: tuple[int, ...] = ()
    """The host of every rank, where ranks of one host see memory of each other."""

    @cached_property
    def transfers(self) -> tuple[Transfer, ...]:
        """Every change of layout that sends a message, in order."""
        return tuple(transfer for found in self._moves.values() for transfer in found if transfer.messages)

    @cached_property
    def _moves(self) -> dict[int, list[Transfer]]:
        """The changes of layout that every node makes, or runs, by the position of the node."""
        found: dict[int, list[Transfer]] = {}
        for position, node in enumerate(self.graph.nodes):
            if isinstance(node.op, Boxing):
                found[position] = [self._transfer(node, node.op)]
            elif isinstance(node.op, Region):
                found[position] = [
                    transfer.repeated(times, when)
                    for body, (times, when) in zip(node.op.graphs, node.op.trips, strict=True)
                    for transfer in Plan(body, self.machine).transfers
                ]
        return found

    @cached_property
    def _carried(self) -> Mapping[int, str]:
        """How every change of layout is done, by the number of its result."""
        apart = self.footprint.apart if self.hosts and self.updates else frozenset[int]()
        return carried(self.graph, self.updates, self.hosts, self.machine, apart)

    def _transfer(self, node: Node, op: Boxing) -> Transfer:
        type = self.graph.values[node.inputs[0]].type
        plan: BoxingPlan = op.plan(type)
        source, target = op.layouts
        return Transfer(
            plan.kind, f"%{node.inputs[0]}", type.shape, type.dtype, source, target,
            plan.bytes_moved, plan.bound, plan.messages, seconds(plan, self.machine), node.reason, node.where,
            how=self._carried.get(node.outputs[0], ""),
        )  # fmt: skip

    @property
    def bytes_moved(self) -> int:
        """Bytes received, summed over ranks."""
        return sum(transfer.bytes for transfer in self.transfers)

    @property
    def messages(self) -> int:
        """Messages sent, summed over ranks."""
        return sum(transfer.messages for transfer in self.transfers)

    @cached_property
    def seconds(self) -> float:
        """The predicted time of the longest chain of transfers that wait for each other.

        A transfer begins when its value is there; computing takes no time, and transfers do not hinder each other.
        """
        ready = [0.0] * len(self.graph.values)
        for position, node in enumerate(self.graph.nodes):
            start = max((ready[number] for number in node.inputs), default=0.0)
            moving = sum(move.seconds for move in self._moves.get(position, ()))
            for number in node.outputs:
                ready[number] = start + moving
        return max(ready, default=0.0)

    @cached_property
    def footprint(self) -> Footprint:
        """What the rank that holds the most holds, and for what."""
        return footprint(self.graph, self.updates, self.hosts, self.machine)

    @cached_property
    def computing_seconds(self) -> float:
        """The predicted time of all other operators on the busiest rank, each reckoned alone, as the planner does."""
        return computing_seconds(self.graph, self.machine)

    @cached_property
    def step_seconds(self) -> Predicted:
        """The predicted time of the compiled program on the first rank: kernels after fusion, meetings, messages."""
        return predicted(self.graph, self.updates, self.hosts, self.machine, self.footprint.apart)

    @cached_property
    def fusion(self) -> Fusion:
        """How many operators the first rank runs, before and after fusion."""
        return fusion(self.graph, self.updates)

    @property
    def peak_bytes(self) -> int:
        """The bytes that the rank which holds the most holds: inputs, and the arena of the compiled program."""
        return self.footprint.total

    def within(self, limit: int) -> Plan:
        """This plan, or where it holds more than `limit` bytes one that holds less and moves more, if there is one."""
        if self.peak_bytes <= limit:
            return self
        other = replace(self, graph=regathered(self.graph, self.machine))
        return other if other.graph != self.graph and other.peak_bytes < self.peak_bytes else self

    def check_memory(self, limit: int) -> None:
        """MemoryLimitError where a rank holds more than `limit` bytes."""
        if self.peak_bytes > limit:
            largest = "".join(f"\n  {each}" for each in self.footprint.largest)
            raise MemoryLimitError(
                f"a step holds {self.footprint}, but memory_limit is {limit} B: split the largest values over more "
                f"ranks, compute some again with fc.checkpoint, take a smaller batch, or raise the limit; "
                f"they are{largest}"
            )

    def summary(self) -> Mapping[str, tuple[int, int, int]]:
        """Per kind of transfer: how many, their bytes, their bound."""
        table: dict[str, tuple[int, int, int]] = {}
        for transfer in self.transfers:
            count, moved, bound = table.get(transfer.kind, (0, 0, 0))
            table[transfer.kind] = (count + 1, moved + transfer.bytes, bound + transfer.bound)
        return table

    def explain(self) -> str:
        """Every transfer with its reason, its bytes beside the bound, and the line that caused it; the peak of memory.

        Before that, how many operators a rank runs before and after fusion. The peak comes with what it is made of and
        with the largest of what lives then.
        """
        head = (
            f"{len(self.graph.nodes)} operators, {len(self.transfers)} transfers: {self.bytes_moved} B in "
            f"{self.messages} messages; {self.fusion}"
        )
        memory = (f"peak {self.footprint}; the largest then:", *(f"  {each}" for each in self.footprint.largest))
        return "\n".join((head, *(f"  {transfer}" for transfer in self.transfers), *memory))

    def text(self) -> str:
        """The physical graph as text; `parse_graph` reads it back."""
        return write_graph(self.graph)

    def save(self, path: str | Path) -> None:
        """Write `text()`, `updates` and `hosts` to a file, and a digest of them."""
        updates = " ".join(f"{old}:{new}" for old, new in self.updates)
        hosts = " ".join(map(str, self.hosts))
        whole = f"{self.text()}\n{UPDATES} {updates}\n{HOSTS} {hosts}\n"
        Path(path).write_text(f"{whole}{DIGEST} {digest_of(whole)}\n", "utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """The plan that `save` wrote; GraphError where the file cannot be read, is damaged or was changed."""
        try:
            whole, _, digest = Path(path).read_text("utf-8").rpartition(DIGEST)
        except (OSError, UnicodeDecodeError) as error:
            raise GraphError(f"{path} is no plan: {error}; save it again with Plan.save") from None
        if digest != f" {digest_of(whole)}\n":
            raise GraphError(f"{path} is no plan, or was changed since: save it again with Plan.save")
        text, _, rest = whole.partition(UPDATES)
        pairs, _, places = rest.partition(HOSTS)
        updates = tuple((int(old), int(new)) for old, new in (pair.split(":") for pair in pairs.split()))
        return cls(parse_graph(text), updates=updates, hosts=tuple(map(int, places.split())))

    def diff(self, other: Plan) -> str:
        """The lines in which `other` differs, as a unified diff; empty where the plans are equal."""
        return "\n".join(difflib.unified_diff(self.text().splitlines(), other.text().splitlines(), lineterm=""))

    def __str__(self) -> str:
        return self.explain()
