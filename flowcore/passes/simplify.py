"""Algebraic and layout simplification: operators that give back an operand, or what fewer operators give.

Every rule holds bit for bit in IEEE arithmetic, for infinities, nan and both zeros: x + 0.0 is not x where x is -0.0,
so it stays, while x − 0.0 and x + -0.0 go; (x · a) · b is not x · (a b) where a product overflows, so only signs are
merged. (x · x rounds once; as x² a library may be a unit in the last place off.) A rule is a function from the node to
a value's number (the node's result is that value), to another node, or to None (it does not apply);
the table says which rules an operator has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from flowcore.graph import Builder, Graph, Node, Value
from flowcore.op import OPS, Op, Type
from flowcore.passes.dce import dce

Found = int | Node | None


def simplify(graph: Graph) -> Graph:
    """`graph` with every rule applied, operands first."""
    return _Simplifier(graph).run()


class _Simplifier:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.builder = graph, Builder(graph)
        self.made: dict[int, Node] = {}
        self.same: dict[int, int] = {}

    def run(self) -> Graph:
        for node in self.graph.nodes:
            node = replace(node, inputs=tuple(self.same.get(number, number) for number in node.inputs))
            found: Found = node if node.reads is not None or len(node.outputs) != 1 else self._simplified(node)
            if isinstance(found, int):
                self.same[node.outputs[0]] = found
            elif found is not None:
                self.builder.nodes.append(found)
                self.made.update((number, found) for number in found.outputs)
        return dce(self.builder.graph(self.same.get(number, number) for number in self.graph.outputs))

    def _simplified(self, node: Node) -> Found:
        """`node` after all rules, one after the other until none applies."""
        while True:
            for rule in (*RULES.get(node.op.name, ()), _narrowed):
                found = rule(self, node)
                if isinstance(found, int) and self._is_like(found, node.outputs[0]):
                    return found
                if isinstance(found, Node):
                    node = found
                    break
            else:
                return node

    def type(self, number: int) -> Type:
        """The type of a value."""
        return self.builder.values[number].type

    def maker(self, number: int, *names: str) -> Node | None:
        """The node that gives a value, if it is one of these operators."""
        node = self.made.get(number)
        return node if node is not None and node.op.name in names else None

    def constant(self, number: int) -> Any:
        """The number that a value is everywhere, as one of its dtype; None where it is none."""
        node = self.maker(number, "full")
        op: Any = None if node is None else node.op
        return None if op is None else op.made.type(op.value)

    def number(self, place: int) -> int:
        """The constant at `place` without dimensions."""
        value, op = (
            self.builder.values[place],
            _op("full", (), _any(self.made[place].op).value, str(self.type(place).dtype)),
        )
        made = self.builder.node(op, [], [Value(Type((), value.type.dtype), value.placement)], self.made[place].where)
        self.made[made[0]] = self.builder.nodes[-1]
        return made[0]

    def _is_like(self, number: int, result: int) -> bool:
        """Whether value `number` may stand for `result`: of its type, where it lies, as it lies."""
        one, other = self.builder.values[number], self.builder.values[result]
        return (one.type, one.placement) == (other.type, other.placement) and other.sbp in (None, one.sbp)


Rule = Callable[[_Simplifier, Node], Found]


def _is(value: Any, wanted: float) -> bool:
    """Whether a constant is `wanted`, zeros told apart by their sign."""
    return value is not None and value == wanted and np.signbit(value.real) == np.signbit(wanted)


def _neutral(place: int, wanted: float, kinds: str = "iuf") -> Rule:
    """The other operand, where the one at `place` is `wanted`."""

    def rule(on: _Simplifier, node: Node) -> Found:
        number = node.inputs[place]
        fits = on.type(number).dtype.kind in kinds and _is(on.constant(number), wanted)
        return node.inputs[1 - place] if fits else None

    return rule


def _square(on: _Simplifier, node: Node) -> Found:
    """x² as x · x."""
    base, exponent = node.inputs
    if on.type(base).dtype.kind != "f" or not _is(on.constant(exponent), 2.0):
        return None
    return replace(node, op=_op("multiply"), inputs=(base, base)) if _keeps_shape(on, node, base) else None


def _negated(on: _Simplifier, node: Node) -> Found:
    """x · -1 as -x."""
    for one, other in (node.inputs, node.inputs[::-1]):
        if on.type(one).dtype.kind == "f" and _is(on.constant(other), -1.0) and _keeps_shape(on, node, one):
            return replace(node, op=_op("negative"), inputs=(one,))
    return None


def _double_negative(on: _Simplifier, node: Node) -> Found:
    source = on.maker(node.inputs[0], "negative")
    return None if source is None else source.inputs[0]


def _sign_taken_in(turned: str) -> Rule:
    """a ± (−b) as a ∓ b."""

    def rule(on: _Simplifier, node: Node) -> Found:
        first, second = node.inputs
        source = on.maker(second, "negative")
        if source is None or on.type(second).dtype.kind != "f":
            return None
        return replace(node, op=_op(turned), inputs=(first, source.inputs[0]))

    return rule


def _chosen(on: _Simplifier, node: Node) -> Found:
    """The operand that a constant condition chooses."""
    condition = on.constant(node.inputs[0])
    return None if condition is None else node.inputs[1 if condition else 2]


def _same_shape(on: _Simplifier, node: Node) -> Found:
    source = node.inputs[0]
    return source if on.type(source).shape == on.type(node.outputs[0]).shape else None


def _straight(on: _Simplifier, node: Node) -> Found:
    """A shape of a shape: the last one alone."""
    source = on.maker(node.inputs[0], node.op.name)
    return None if source is None else replace(node, inputs=source.inputs)


def _unmoved(on: _Simplifier, node: Node) -> Found:
    """A transpose that leaves all dimensions of more than one element in order, as a reshape, or as nothing."""
    op: Any = node.op
    source = node.inputs[0]
    lengths = on.type(source).shape
    if op.axes == tuple(range(len(lengths))):
        return source
    moved = [axis for axis in op.axes if lengths[axis] != 1]
    shape = tuple(lengths[axis] for axis in op.axes)
    return replace(node, op=_op("reshape", shape)) if moved == sorted(moved) else None


def _one_order(on: _Simplifier, node: Node) -> Found:
    """A transpose of a transpose as one."""
    source = on.maker(node.inputs[0], "permute")
    if source is None:
        return None
    outer, inner = (tuple(op.axes) for op in (_any(node.op), _any(source.op)))
    return replace(node, op=_op("permute", tuple(inner[axis] for axis in outer)), inputs=source.inputs)


def _same_dtype(on: _Simplifier, node: Node) -> Found:
    source = node.inputs[0]
    return source if on.type(source).dtype == on.type(node.outputs[0]).dtype else None


def _one_cast(on: _Simplifier, node: Node) -> Found:
    """A cast of a cast between floats, or between integers, that has lost nothing: the last one alone."""
    source = on.maker(node.inputs[0], "cast")
    if source is None:
        return None
    first, between, last = (on.type(n).dtype for n in (source.inputs[0], node.inputs[0], node.outputs[0]))
    is_one_kind = first.kind == between.kind == last.kind and first.kind in "fiu"
    return replace(node, inputs=source.inputs) if is_one_kind and np.can_cast(first, between, "safe") else None


def _narrowed(on: _Simplifier, node: Node) -> Found:
    """An elementwise operator that reads what was broadcast for it, as it was before."""
    if node.op.loop != "map" or len(node.inputs) < 2:
        return None
    shapes = [on.type(number).shape for number in node.inputs]
    for place, number in enumerate(node.inputs):
        source = on.maker(number, "broadcast_to", "full")
        if source is None:
            continue
        before = on.type(source.inputs[0]).shape if source.inputs else ()
        others = [*shapes[:place], before, *shapes[place + 1 :]]
        if before != shapes[place] and np.broadcast_shapes(*others) == on.type(node.outputs[0]).shape:
            given = source.inputs[0] if source.inputs else on.number(number)
            return replace(node, inputs=(*node.inputs[:place], given, *node.inputs[place + 1 :]))
    return None


def _keeps_shape(on: _Simplifier, node: Node, number: int) -> bool:
    return on.type(number).shape == on.type(node.outputs[0]).shape


def _any(op: Op) -> Any:
    return op


def _op(name: str, *fields: Any) -> Op:
    kind: Any = OPS[name]
    return kind(*fields)  # type: ignore[no-any-return]  # the registry knows only that it makes operators


RULES: Mapping[str, tuple[Rule, ...]] = {
    "add": (_neutral(0, -0.0, "f"), _neutral(1, -0.0, "f"), _neutral(0, 0, "iu"), _neutral(1, 0, "iu"),
            _sign_taken_in("subtract")),
    "subtract": (_neutral(1, 0.0), _sign_taken_in("add")),
    "multiply": (_neutral(0, 1.0), _neutral(1, 1.0), _negated),
    "divide": (_neutral(1, 1.0),),
    "power": (_neutral(1, 1.0, "f"), _square),
    "negative": (_double_negative,),
    "where": (_chosen,),
    "reshape": (_same_shape, _straight),
    "broadcast_to": (_same_shape, _straight),
    "permute": (_unmoved, _one_order),
    "cast": (_same_dtype, _one_cast),
}  # fmt: skip
