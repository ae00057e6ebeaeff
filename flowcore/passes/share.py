"""Changes of layout within a host become meetings, views of peers' registers and ordinary operators.

Where ranks see each other's memory nothing needs to be sent: a rank shows the block it has, all meet, and each reads
the very slices it needs, reducing terms as it does so. The reduction is an operator of the rank's own graph, so that
fusion joins it with what reads it: the sum over ranks of a gradient with the update of the parameter.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from flowcore.comm.boxing import BoxingPlan
from flowcore.comm.route import Direct, Read, Task, direct_of, is_contiguous
from flowcore.dtypes import kind_of, widened
from flowcore.graph import Graph, Node, Value, digest_of
from flowcore.local import Move, localize
from flowcore.meeting_op import Collect, Post, View, Wait
from flowcore.op import OPS, Type
from flowcore.passes.arrange import Hosts, arranged
from flowcore.passes.common import Common, Piece, commons, pieces, unmet
from flowcore.passes.divide import divide
from flowcore.passes.donate import Update, roots
from flowcore.passes.lists import lists_of
from flowcore.passes.overlap import timetable
from flowcore.passes.scatter_first import scatter_first
from flowcore.placement.machine import Machine

JOINED = {"sum": ("add", "fiuc"), "max": ("maximum", "fiu"), "min": ("minimum", "fiu")}
"""The operator of each reduction, and the kinds of dtype it takes."""


@dataclass(frozen=True)
class Shared:
    """The graph of one rank that shares memory with others; `ranks`: all of these, () where there are none.

    commons: the registers it has in common with them; behind the inputs of the graph stand, for each of these, the
    whole, where the rank holds a part alone, and then the parts that the rank replaces. count: those that any rank may
    have. pieces: by key what lies together with what others show, in the window of one of them.
    """

    graph: Graph
    ranks: tuple[int, ...] = ()
    commons: tuple[Common, ...] = ()
    count: int = 0
    pieces: Mapping[int, Piece] = field(default_factory=dict)

    @property
    def parts(self) -> dict[int, Common]:
        """The common registers by the input that is the part the rank replaces."""
        return dict(zip(self.graph.inputs[len(self.graph.inputs) - len(self.commons) :], self.commons, strict=True))

    @property
    def known(self) -> set[int]:
        """The inputs that lie in common registers."""
        return {*self.parts, *(common.input for common in self.commons)}

    def updates(self, graph: Graph, outputs: Sequence[int | None]) -> list[Update]:
        """(part, result) of the common registers, once the graph has become `graph`; outputs: by position, its own."""
        shown: dict[int, int] = {}
        for node in graph.nodes:
            if isinstance(node.op, Post):
                shown.update(zip(node.op.keys, node.inputs, strict=True))
        found = []
        for part, common in self.parts.items():
            result = outputs[common.new] if common.is_part else shown[common.key]
            assert result is not None
            found.append((part, result))
        return found


def shared(
    graph: Graph, rank: int, updates: Sequence[Update], hosts: Hosts, digest: int, machine: Machine,
    apart: Container[int] = (),
) -> Shared:  # fmt: skip
    """What `rank` does in a physical graph, with what stays within its host as meetings; digest: of the graph."""
    ordered, groups, every = met(graph, updates, hosts, apart)
    times = timetable(ordered, machine, groups)
    local = localize(ordered, rank, times.stages, times.nudges)
    near = tuple(other for other in graph.ranks if hosts[other] == hosts[rank])
    if not groups or len(near) < 2:
        return Shared(local)
    inputs = dict(zip((n for n in graph.inputs if rank in graph.values[n].placement), local.inputs, strict=True))
    served = {place: every[n][rank] for place, node in enumerate(ordered.nodes) for n in node.outputs
              if rank in every.get(n, ())}  # fmt: skip
    mine = {place: replace(common, input=inputs[graph.inputs[common.old]]) for place, common in served.items()}
    gathered = _gathered(ordered, groups, every, hosts, rank)
    sharer = _Sharer(local, rank, hosts, digest, mine, gathered)
    return Shared(sharer.run(groups), near, tuple(sharer.found.values()), len(updates) if every else 0, gathered)


def _gathered(
    graph: Graph, groups: Mapping[int, int], every: Container[int], hosts: Hosts, rank: int
) -> dict[int, Piece]:
    """By the place of each change of layout that gathers what a host then holds once, the piece of `rank`."""
    found, lists = {}, lists_of(graph)  # which are read as they lie
    for place in groups:
        (number,) = graph.nodes[place].outputs
        by_rank = {} if number in every or number in lists else pieces(graph, graph.nodes[place], hosts)
        if all(piece.part.size for piece in by_rank.values()) and rank in by_rank:
            found[place] = by_rank[rank]
    return found


def met(
    graph: Graph, updates: Sequence[Update], hosts: Hosts, apart: Container[int] = ()
) -> tuple[Graph, dict[int, int], dict[int, dict[int, Common]]]:
    """The graph as `arranged`, tables divided, the groups of what meets, and `commons` of what lies in registers.

    apart: the updates whose tensors do not.
    """
    whole = scatter_first(graph, hosts)
    graph, tables = divide(whole, updates, hosts)
    every = commons(graph, updates, hosts)
    ordered, groups = _arranged(graph, hosts, every)
    # in this order something may raise after their new values are written, or be read then
    while unsafe := {
        *(every.keys() - commons(ordered, updates, hosts).keys()), *unmet(ordered, groups, every),
        *(number for number, by_rank in every.items() if next(iter(by_rank.values())).index in apart),
    }:  # fmt: skip
        if unsafe & tables:
            graph, tables = whole, set()
            every = commons(graph, updates, hosts)
        else:
            every = {number: common for number, common in every.items() if number not in unsafe}
        ordered, groups = _arranged(graph, hosts, every)
    return ordered, groups, every


def _arranged(graph: Graph, hosts: Hosts, every: Mapping[int, Mapping[int, Common]]) -> tuple[Graph, dict[int, int]]:
    there = {number for number, by_rank in every.items() if any(common.is_part for common in by_rank.values())}
    return arranged(graph, hosts, every, there)


class _Sharer:
    """The graph of `rank` with what `arranged` put into groups as meetings, views and ordinary operators.

    commons: by the place of the change of layout that each serves, with the input that lies there. pieces: by place of
    what is gathered in the window of one rank.
    """

    def __init__(
        self, local: Graph, rank: int, hosts: Hosts, digest: int, commons: Mapping[int, Common],
        pieces: Mapping[int, Piece],
    ) -> None:  # fmt: skip
        self.local, self.rank, self.hosts, self.digest, self.commons = local, rank, hosts, digest, commons
        self.pieces = pieces
        self.values, self.nodes = list(local.values), list[Node]()
        self.new: dict[int, int] = {}
        self.seen: set[int] = set()
        self.results: set[int] = set()
        self.parts = {(common.input, common.box): self._value(common.part) for common in commons.values()}
        self.found = dict(commons)
        """`commons` with the number of the whole."""
        for place, common in commons.items():
            if common.is_part:
                self.new[common.input] = self.parts[common.input, common.box]
                self.found[place] = replace(common, input=self._value(common.type))

    def run(self, groups: Mapping[int, int]) -> Graph:
        """The graph; behind its inputs stand wholes and parts of common registers, these in the order of `found`."""

        def group(node: Node) -> int:
            return groups.get(node.op.place, -1) if isinstance(node.op, Move) else -1

        for number, nodes in groupby(self.local.nodes, group):
            if number >= 0:
                self._meet(number, [self._renamed(node) for node in nodes])
                continue
            for node in nodes:
                there = self._there(node)
                if there is None:
                    self.nodes.append(self._renamed(node))
                else:
                    self.new[node.outputs[0]] = there
        outputs = tuple(self.new.get(number, number) for number in self.local.outputs)
        wholes = (common.input for common in self.found.values() if common.is_part)
        inputs = (*self.local.inputs, *wholes, *self.parts.values())
        return self._kept(Graph(tuple(self.values), inputs, tuple(self.nodes), outputs))

    def _there(self, node: Node) -> int | None:
        """What a common register holds already, if `node` gives that: all of it, or what this rank replaces."""
        op = node.op
        if isinstance(op, Move) and op.place in self.found and self.found[op.place].is_part:
            return self.found[op.place].input
        if not isinstance(op, Move) or op.plan.messages or not node.inputs or not node.outputs:
            return None
        needed = op.plan.for_rank(self.rank).needed
        return None if needed is None else self.parts.get((node.inputs[0], needed))

    def _renamed(self, node: Node) -> Node:
        return replace(node, inputs=tuple(self.new.get(number, number) for number in node.inputs))

    def _meet(self, number: int, nodes: Sequence[Node]) -> None:
        """One meeting of each set of ranks among those of the group's changes of layout."""
        found: dict[tuple[int, ...], list[tuple[Node, Direct]]] = {}
        for node in nodes:
            assert isinstance(node.op, Move)
            direct = direct_of(node.op.plan, self.rank, self.hosts)
            assert direct is not None
            found.setdefault(direct.ranks, []).append((node, direct))
        digest = digest_of(f"{self.digest} {number}")
        for ranks in sorted(found):
            own = ranks.index(self.rank)
            shown = [
                node for node, direct in found[ranks]
                if node.inputs and (own in direct.shown or self._whole(node) is not None)
            ]  # fmt: skip
            keys = tuple(self._key(node) for node in shown)
            self.nodes.append(
                Node(Post(ranks, digest, keys), tuple(node.inputs[0] for node in shown), (), nodes[0].where)
            )
        seen = {id(node): views for ranks in sorted(found) for node, views in self._wait(ranks, digest, found[ranks])}
        for ranks in sorted(found):
            for node, direct in found[ranks]:
                if self._whole(node) is None:
                    self._put_together(node, direct, seen[id(node)])

    def _common(self, node: Node) -> Common | None:
        assert isinstance(node.op, Move)
        return self.commons.get(node.op.place)

    def _whole(self, node: Node) -> View | None:
        """The result, where the ranks of the host have that in one register."""
        assert isinstance(node.op, Move)
        common, piece = self._common(node), self.pieces.get(node.op.place)
        if common is not None:
            return View(common.ranks[0], common.key, common.type, (...,), common.type.shape)
        if piece is not None:
            return View(piece.holder, node.op.place, piece.type, (...,), piece.type.shape)
        return None

    def _key(self, node: Node) -> int:
        """The key of what is shown: the place of the change of layout, below zero that of a common register."""
        assert isinstance(node.op, Move)
        common = self._common(node)
        return node.op.place if common is None else common.key

    def _wait(
        self, ranks: tuple[int, ...], digest: int, moves: Sequence[tuple[Node, Direct]]
    ) -> list[tuple[Node, dict[int, int]]]:
        """The node that waits; per change of layout the value of every view it takes, by the identity of the read."""
        views: list[View] = []
        outputs: list[int] = []
        found = []
        for node, direct in moves:
            assert isinstance(node.op, Move)
            here: dict[int, int] = {}
            whole = self._whole(node)
            if whole is not None:
                views.append(whole)
                outputs.append(node.outputs[0])
                (self.results if whole.key < 0 else self.seen).add(node.outputs[0])
            for task in direct.tasks if whole is None else ():
                for read in task.terms:
                    source = direct.sources[read.member]
                    if read.member < 0 or source is None:
                        continue
                    view = View(
                        ranks[read.member], node.op.place, replace(node.op.type, shape=source), read.index, task.shape
                    )
                    here[id(read)] = self._value(Type(task.shape, view.source.dtype))
                    views.append(view)
                    outputs.append(here[id(read)])
            found.append((node, here))
        self.seen.update(n for _, here in found for n in here.values())
        self.nodes.append(Node(Wait(ranks, digest, tuple(views)), (), tuple(outputs), moves[0][0].where))
        return found

    def _value(self, type: Type) -> int:
        self.values.append(Value(type, self.local.values[0].placement, self.local.values[0].sbp))
        return len(self.values) - 1

    def _put_together(self, node: Node, direct: Direct, views: Mapping[int, int]) -> None:
        """The target block from its terms, as a view or a sum where it is one."""
        if direct.shape is None:
            return
        op = node.op
        assert isinstance(op, Move)
        plan: BoxingPlan = op.plan
        (result,) = node.outputs
        if self._is_plain(direct):
            (task,) = direct.tasks
            terms = [self._term(node, read, task, views) for read in task.terms]
            if len(terms) == 1:
                self.new[result] = terms[0]
                return
            if len(plan.levels) == 1 and kind_of(plan.dtype) in JOINED[plan.levels[0][1]][1]:
                self._join(terms, node, Type(direct.shape, widened(plan.dtype)))
                return
        parts = tuple((task.index, len(task.terms)) for task in direct.tasks)
        inputs = tuple(self._term(node, read, task, views) for task in direct.tasks for read in task.terms)
        collect = Collect(Type(direct.shape, plan.dtype), parts, plan.levels, direct.fills)
        self.nodes.append(Node(collect, inputs, (result,), node.where))

    def _join(self, terms: Sequence[int], node: Node, type: Type) -> None:
        """The terms reduced one after the other, narrow ones in float32 and rounded once; `type`: that of the sums."""
        assert isinstance(node.op, Move)
        join, is_cast = OPS[JOINED[node.op.plan.levels[0][1]][0]](), type.dtype != node.op.type.dtype
        if is_cast:
            terms = [self._cast(term, self._value(type), node) for term in terms]
        first, *rest = terms
        for place, term in enumerate(rest, 1):
            made = node.outputs[0] if place == len(rest) and not is_cast else self._value(type)
            self.nodes.append(Node(join, (first, term), (made,), node.where))
            first = made
        if is_cast:
            self._cast(first, node.outputs[0], node)

    def _cast(self, source: int, result: int, node: Node) -> int:
        """`source` in the dtype of `result`."""
        cast: Any = OPS["cast"]
        self.nodes.append(Node(cast(self.values[result].type.dtype.name), (source,), (result,), node.where))
        return result

    def _term(self, node: Node, read: Read, task: Task, views: Mapping[int, int]) -> int:
        if read.member >= 0:
            return views[id(read)]
        source = self.values[node.inputs[0]].type
        if source.shape == task.shape:
            return node.inputs[0]
        made = self._value(Type(task.shape, source.dtype))
        starts, lengths = zip(*((part.start, part.stop - part.start) for part in read.index[:-1]), strict=True)
        cut: Any = OPS["slice"]
        self.nodes.append(Node(cut(starts, lengths, (1,) * len(starts)), (node.inputs[0],), (made,), node.where))
        return made

    def _is_plain(self, direct: Direct) -> bool:
        """Whether the block is made of terms of its shape, each of them one range of memory, as loops read it."""
        if len(direct.tasks) != 1 or direct.tasks[0].shape != direct.shape or direct.fills:
            return False
        (task,) = direct.tasks
        own = direct.ranks.index(self.rank)
        sources = [direct.sources[own if read.member < 0 else read.member] or () for read in task.terms]
        return all(is_contiguous(shape, read.index) for shape, read in zip(sources, task.terms, strict=True))

    def _kept(self, graph: Graph) -> Graph:
        """`graph` with copies of the outputs that would be memory which others, or the next run, write to."""
        held = roots(graph)
        results = {n for n in graph.outputs if held[n] == {n} and n in self.results}
        lent = {*self.seen, *self.results, *self.parts.values(), *(common.input for common in self.found.values())}
        copies: dict[int, int] = {}
        for number in graph.outputs:
            if held[number] & lent and number not in results and number not in copies:
                copies[number] = self._value(self.values[number].type)
        made = {
            number: Node(Collect(self.values[number].type, (((...,), 1),)), (number,), (copy,))
            for number, copy in copies.items()
        }
        nodes = [made[number] for number in graph.inputs if number in made]
        for node in graph.nodes:  # at once, while the memory is what it was
            nodes += [node, *(made[number] for number in node.outputs if number in made)]
        outputs = tuple(copies.get(number, number) for number in graph.outputs)
        return Graph(tuple(self.values), graph.inputs, tuple(nodes), outputs)

