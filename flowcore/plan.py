"""Chooses the SBP of every value and the SBP in which every node reads its inputs: logical graph → annotated graph.

The graph becomes a plain problem (`placement.problem`), the search answers with one candidate per node. What the user
fixed (inputs, `to_global`, the layout a tensor was created in) is a constraint. The layout of an input that is
carried from step to step (`carry`) is free: the search chooses it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from itertools import product
from math import prod

from flowcore.boxing_op import Carry, Relayout
from flowcore.dtypes import kind_of
from flowcore.errors import PlanError
from flowcore.graph import Graph, Node
from flowcore.op import Op, Type, is_valid
from flowcore.placement.layout import Shape
from flowcore.placement.machine import Machine
from flowcore.placement.problem import ORDINARY, Candidate, Choice, Item, Problem, Step
from flowcore.placement.sbp import SBP, B, NdSbp, Partial, Split
from flowcore.placement.search import greedy
from flowcore.signatures import nd_signatures


def plan(graph: Graph, machine: Machine = ORDINARY) -> Graph:
    """`graph` with an SBP on every value and `reads` on every node: few bytes moved, and then little time."""
    if _is_alone(graph):
        return replicated(graph)
    problem = as_problem(graph, machine)
    choice = greedy(problem)
    values, nodes = list(graph.values), []
    for node, step, number in zip(graph.nodes, problem.steps, choice.numbers, strict=True):
        candidate = step.candidates[number]
        for output, sbp in zip(step.outputs, candidate.outputs, strict=True):
            values[output] = replace(values[output], sbp=sbp)
        if node.reads is None:
            reads = candidate.outputs if isinstance(node.op, Carry) else candidate.inputs
            node = replace(node, reads=reads, reason=_reason(node, choice))
        nodes.append(node)
    return Graph(tuple(values), graph.inputs, tuple(nodes), graph.outputs)


def _reason(node: Node, choice: Choice) -> str:
    """Why `node` reads its inputs as it does: what was compared, if anything was."""
    for number in node.inputs:
        found = choice.compared.get(number)
        if found is not None:
            ways = ("to slices", "whole") if found.is_sliced else ("whole", "to slices")
            times = (f"{seconds * 1e6:.1f} µs" for seconds in (found.chosen, found.other))
            compared = " against ".join(f"{way} {time}" for way, time in zip(ways, times, strict=True))
            return node.reason or f"{node.op.name} reads it so, {compared}"
    return node.reason


def _is_alone(graph: Graph) -> bool:
    """Whether one rank does everything, and nothing asks for a layout: there is no choice to make."""
    return all(
        value.placement.size == 1 and (value.sbp is None or value.layout.is_broadcast) for value in graph.values
    ) and all(node.reads is None and not isinstance(node.op, Relayout) for node in graph.nodes)


def stays_replicated(graph: Graph) -> bool:
    """Whether everything is best replicated in a graph of one plain operator: then `replicated` is its plan.

    All values that have a layout are replicas on one placement. To read one of them in another layout would cost a
    change of layout, whose gain in work counts less; so only an operator that computes and divides what its inputs do
    not have, as `broadcast_to`, might give anything else.
    """
    (node,), given = graph.nodes, {value.layout for value in graph.values if value.sbp is not None}
    op, types = node.op, graph.types(node.inputs)
    if isinstance(op, Relayout) or len(given) != 1 or not all(layout.is_broadcast for layout in given):
        return False
    if graph.values[0].placement.size == 1 or not types or not op.flops(*types):
        return True
    if type(op).rules is not Op.rules:
        return False
    equation = op.equation(*types)
    return equation is not None and set("".join(equation.outputs)) <= set("".join(equation.inputs))


def replicated(graph: Graph) -> Graph:
    """`graph` with every value replicated."""
    values = tuple(replace(value, sbp=(B,) * value.placement.ndim) for value in graph.values)
    nodes = (replace(node, reads=tuple(values[n].layout.sbp for n in node.inputs)) for node in graph.nodes)
    return Graph(values, graph.inputs, tuple(nodes), graph.outputs)


def as_problem(graph: Graph, machine: Machine = ORDINARY) -> Problem:
    """The planner's problem for `graph`."""
    commons = _commons(graph)
    items = tuple(
        Item(value.type.shape, value.type.dtype.itemsize, value.placement, commons.get(number))
        for number, value in enumerate(graph.values)
    )
    given = {number: graph.values[number].layout.sbp for number in graph.inputs}
    return Problem(items, given, tuple(_step(graph, node) for node in graph.nodes), machine)


def _commons(graph: Graph) -> dict[int, int]:
    """The values that are computed from a replica, through values like it, and leave the graph in its place.

    With the bytes of an element of the narrowest value of their shape that they come from: as a rule a gradient.
    """
    made = {number: node for node in graph.nodes for number in node.outputs}
    inputs = {number: graph.values[number] for number in graph.inputs}
    found = {}
    for number in graph.outputs:
        after, node = graph.values[number], made.get(number)
        if node is None or not isinstance(node.op, Relayout) or after.sbp is None or not after.layout.is_broadcast:
            continue
        before, left, narrowest = set[int](), [node.inputs[0]], after.type.dtype.itemsize
        while left:
            value = left.pop()
            type = graph.values[value].type
            if value not in before and type == after.type:
                before.add(value)
                left.extend(made[value].inputs if value in made else ())
            elif type.shape == after.type.shape and kind_of(type.dtype) == kind_of(after.type.dtype):
                narrowest = min(narrowest, type.dtype.itemsize)
        if after in [inputs[value] for value in before if value in inputs]:
            found[node.inputs[0]] = narrowest
    return {number: size for number, size in found.items() if number not in inputs}


def _step(graph: Graph, node: Node) -> Step:
    results = [graph.values[number] for number in node.outputs]
    placement = results[0].placement
    if node.reads is not None:  # settled already
        # an input on another placement is a replica there, and costs nothing
        here = [place for place, number in enumerate(node.inputs) if graph.values[number].placement == placement]
        only = Candidate(tuple(node.reads[p] for p in here), tuple(value.layout.sbp for value in results), 0)
        return Step(tuple(node.inputs[p] for p in here), node.outputs, placement, (only,))
    types, mesh = graph.types(node.inputs), placement.shape
    if isinstance(node.op, Carry):
        becomes, free = node.inputs
        return Step((becomes,), (free, *node.outputs), placement, _kept_layouts(types[0], len(mesh)))
    if isinstance(node.op, Relayout):
        wanted = node.op.target[1]
        given = candidates_of(node.op, types, mesh) if wanted is None else (Candidate((wanted,), (wanted,), 0),)
        return Step(node.inputs, node.outputs, placement, given)
    candidates = _fitting(node.op, types, mesh, tuple(value.sbp for value in results))
    if not candidates:
        fixed = ", ".join(str(value.layout) for value in results if value.sbp is not None)
        raise PlanError(f"{node.op.name} at {node.where} cannot give {fixed}: create it as B and use to_global")
    return Step(node.inputs, node.outputs, placement, candidates)


@lru_cache(maxsize=16384)
def _fitting(op: Op, types: tuple[Type, ...], mesh: Shape, fixed: tuple[NdSbp | None, ...]) -> tuple[Candidate, ...]:
    """The candidates that give the results as `fixed` (None: as they will).

    Equal nodes have one and the same tuple, by which the search knows them to be equal.
    """
    candidates = candidates_of(op, types, mesh)
    if not any(fixed):
        return candidates
    return tuple(
        candidate
        for candidate in candidates
        if all(sbp in (None, given) for sbp, given in zip(fixed, candidate.outputs, strict=True))
    )


@lru_cache(maxsize=16384)
def candidates_of(op: Op, types: tuple[Type, ...], mesh: Shape) -> tuple[Candidate, ...]:
    """Every way to run `op` on a mesh of this shape, all-B first."""
    if isinstance(op, Relayout):
        return tuple(Candidate((sbp,), (sbp,), 0) for sbp in _layouts(types[0], len(mesh)))
    flops, once = op.flops(*types), dict[NdSbp, NdSbp]()
    found = []

    def layouts(values: Iterable[tuple[SBP, ...]]) -> tuple[NdSbp, ...]:
        """Of every value the SBP on each axis, equal ones as one object, by which the search knows them faster."""
        return tuple([once.setdefault(sbp, sbp) for sbp in values])

    for signature in nd_signatures(op, types, mesh):
        inputs = layouts(zip(*(axis.inputs for axis in signature), strict=True))
        outputs = layouts(zip(*(axis.outputs for axis in signature), strict=True))
        shares = prod(
            parts
            for parts, axis in zip(mesh, signature, strict=True)
            if any(isinstance(part, Split) for part in (*axis.inputs, *axis.outputs))
        )
        terms = tuple(
            (position, axis, part)
            for position, sbp in enumerate(inputs)
            for axis, part in enumerate(sbp)
            if isinstance(part, Partial)
        )
        found.append(Candidate(inputs, outputs, -(-flops // shares), terms))
    return tuple(found)


@lru_cache(maxsize=16384)
def _kept_layouts(type: Type, axes: int) -> tuple[Candidate, ...]:
    """Every layout in which a value of `type` may live from step to step: none that has terms."""
    whole = [sbp for sbp in _layouts(type, axes) if not any(isinstance(part, Partial) for part in sbp)]
    return tuple(Candidate((sbp,), (sbp, sbp), 0) for sbp in whole)


def _layouts(type: Type, axes: int) -> list[NdSbp]:
    """Every nd-SBP a value of `type` may have without being a max or min."""
    one: list[SBP] = [B, *(Split(dim) for dim in range(type.ndim)), Partial()]
    return list(product([part for part in one if is_valid(part, type)], repeat=axes))
