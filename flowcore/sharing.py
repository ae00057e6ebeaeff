"""Where the values lie that a program shows to the other ranks of its host, and where theirs are.

Every rank has a *window*: memory that all of them see. Which value lies where in it each rank settles by itself and
tells the others once, when the program is made. A program's ranks meet before it runs, so nobody writes into a window
that a peer still reads from the run before; the windows of the same ranks are therefore those of all their programs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flowcore.comm.transport import Opens
from flowcore.graph import Graph, Node
from flowcore.meeting_op import Collect, Post, View, Wait
from flowcore.memory import ALIGNMENT
from flowcore.op import Array, Type
from flowcore.passes.donate import makes_memory, roots
from flowcore.races import Access, Footprint, Group, races
from flowcore.world import World

SAME_BYTES = ("reshape", "alias", "stop_gradient")
"""Operators whose result has the bytes of their operand."""


@dataclass
class Sharing:
    """The part of `rank`, one of `ranks`: `places` (bytes from the window's start) of the registers it shows."""

    rank: int
    ranks: tuple[int, ...]
    places: Mapping[int, tuple[int, Type]]
    size: int
    footprint: Footprint
    _windows: Mapping[int, Array] = field(default_factory=dict)
    _told: Mapping[int, Mapping[int, int]] = field(default_factory=dict)

    def bind(self, world: World) -> bool:
        """Learn where everything is; False on all ranks where there is no memory. All of `ranks` call it."""
        transport = world.transport
        assert isinstance(transport, Opens)
        gathered = transport.gather_objects(self.ranks, (self.size, self.footprint))
        told = dict(zip(self.ranks, gathered, strict=True))
        found = races({rank: footprint for rank, (_, footprint) in told.items()})
        assert not found, found
        windows = world.windows.get(self.ranks)
        if windows is None or any(size > windows[rank].size for rank, (size, _) in told.items()):
            size = max(self.size, 0 if windows is None else windows[world.rank].size)
            made = transport.windows(self.ranks, size + ALIGNMENT)
            if made is None:
                return False
            pairs = zip(self.ranks, made, strict=True)
            windows = {
                rank: memory[-memory.ctypes.data % ALIGNMENT :][: memory.size - ALIGNMENT] for rank, memory in pairs
            }
            world.windows[self.ranks] = windows
        self._windows, self._told = windows, {rank: footprint.keys for rank, (_, footprint) in told.items()}
        return True

    @property
    def registers(self) -> Mapping[int, Array]:
        """The memory of the registers that the rank shows."""
        return {n: _array(self._windows[self.rank], place, type) for n, (place, type) in self.places.items()}

    def view(self, view: View) -> Array:
        """What a peer shows."""
        found: Array = _array(self._windows[view.rank], self._told[view.rank][view.key], view.source)[view.index]
        return found


def _array(memory: Array, place: int, type: Type) -> Array:
    found: Array = memory[place : place + type.nbytes].view(type.dtype).reshape(type.shape)
    return found


def show(graph: Graph, left: Sequence[Node], rank: int, ranks: tuple[int, ...]) -> tuple[Graph, list[Node], Sharing]:
    """`graph` and those of its nodes that are `left` to run, with copies of what cannot be made where peers see it.

    Also where all that they read lies.
    """
    values, maker = list(graph.values), {number: node for node in left for number in node.outputs}
    escaped = {root for number in graph.outputs for root in roots(graph)[number]}
    copies: dict[int, list[Node]] = {}
    keys: dict[int, int] = {}
    places: dict[int, tuple[int, Type]] = {}
    size = 0
    for post in left:
        if not isinstance(post.op, Post):
            continue
        for key, number in zip(post.op.keys, post.inputs, strict=True):
            type, made = values[number].type, _writable(number, maker)
            if made is None or made in escaped:
                made = len(values)
                values.append(values[number])
                copy = Node(Collect(type, (((...,), 1),)), (number,), (made,), post.where)
                copies.setdefault(id(post), []).append(copy)
            keys[key] = made
            if made not in places:
                places[made] = size, values[made].type
                size += -(-type.nbytes // ALIGNMENT) * ALIGNMENT
    every, those = (
        [each for node in nodes for each in (*copies.get(id(node), ()), node)] for nodes in (graph.nodes, left)
    )
    graph = Graph(tuple(values), graph.inputs, tuple(every), graph.outputs)
    told = {key: places[number][0] for key, number in keys.items()}
    footprint = Footprint(*_uses(graph, those, rank, places), told)
    return graph, those, Sharing(rank, ranks, places, size, footprint)


def _uses(
    graph: Graph, nodes: Sequence[Node], rank: int, places: Mapping[int, tuple[int, Type]]
) -> tuple[tuple[tuple[int, Group, int, bool], ...], tuple[Access, ...]]:
    """The meetings and the accesses to shared memory of instructions `nodes`."""
    held, views = roots(graph), dict[int, View]()
    meetings, accesses = [], []
    for position, node in enumerate(nodes):
        if isinstance(node.op, Post | Wait):
            meetings.append((position, node.op.ranks, node.op.digest, isinstance(node.op, Wait)))
        if isinstance(node.op, Wait):
            views.update(zip(node.outputs, node.op.views, strict=True))
        for number in node.outputs:
            if number in places:
                place, type = places[number]
                accesses.append(Access(rank, place, place + type.nbytes, position))
        for seen in {root for number in node.inputs for root in held[number]} & views.keys():
            view = views[seen]
            accesses.append(Access(view.rank, 0, view.source.nbytes, position, view.key))
    return tuple(meetings), tuple(accesses)


def _writable(number: int, maker: Mapping[int, Node]) -> int | None:
    """The value with the bytes of value `number` that an operator writes where it is told to; None: there is none."""
    while number in maker:
        node = maker[number]
        if makes_memory(node.op) and number in node.op.new_results(node.outputs):
            return number
        if node.op.name not in SAME_BYTES:
            return None
        (number,) = node.inputs
    return None
