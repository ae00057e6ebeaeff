"""Of a product only what is read is computed: the part of a contraction is the contraction of parts. One rank's graph.

A layer that reads other columns beside rows of tables is asked for the gradient of the rows alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from flowcore.graph import Graph, Node
from flowcore.jit.launch import Launch
from flowcore.jit.product import launch as product_launch
from flowcore.op import Array, Op, Type
from flowcore.passes.dce import dce

Range = tuple[int, int]


@dataclass(frozen=True)
class ContractPart(Op):
    """The contraction of a and b, each but start..stop-1 along the letters in `ranges`; `whole` contracts all."""

    whole: Op
    ranges: tuple[tuple[str, Range], ...]

    name: ClassVar[str] = "contract_part"
    makes_memory: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    narrow: ClassVar[bool] = True

    @property
    def terms(self) -> tuple[str, str, str]:
        """The letters of the operands and of the result."""
        given, result = _any(self.whole).formula.split("->")
        first, second = given.split(",")
        return first, second, result

    def part(self, term: str, x: Array) -> Array:
        """What is read of the operand with these letters."""
        ranges = dict(self.ranges)
        part: Array = x[tuple(slice(*ranges[letter]) if letter in ranges else slice(None) for letter in term)]
        return part

    def infer(self, *types: Any, **_: Any) -> tuple[Type, ...]:
        return self.whole.infer(*(replace(type, shape=self._shape(place, type)) for place, type in enumerate(types)))

    def _shape(self, place: int, type: Type) -> tuple[int, ...]:
        ranges = dict(self.ranges)
        given = zip(self.terms[place], type.shape, strict=True)
        return tuple(ranges[letter][1] - ranges[letter][0] if letter in ranges else length for letter, length in given)

    def kernel(self, a: Array, b: Array) -> Any:
        return self.whole.kernel(self.part(self.terms[0], a), self.part(self.terms[1], b))

    def write(self, results: Sequence[Array | None], *arrays: Any) -> Any:
        a, b = arrays
        return self.whole.write(results, self.part(self.terms[0], a), self.part(self.terms[1], b))

    def launch(self, types: Sequence[Type]) -> Launch | None:
        plain = self.whole.launch(types)
        if plain is None or any(start for _, (start, _) in self.ranges):
            return None
        first, second, result = self.terms
        shapes = (*self._shape(0, types[0]), *self._shape(1, types[1]))
        wholes = dict(zip(first, types[0].shape, strict=True)), dict(zip(second, types[1].shape, strict=True))
        lengths = dict(zip(first + second, shapes, strict=True))
        return product_launch(first, second, result, lengths, plain.kernel.kinds[0], wholes)

    def flops(self, *types: Type) -> int:
        return self.whole.flops(*(replace(type, shape=self._shape(place, type)) for place, type in enumerate(types)))

    def text(self) -> str:
        return f"{self.name}{{{_any(self.whole).formula}, {dict(self.ranges)}}}"


def compute_parts(graph: Graph) -> Graph:
    """`graph` with the part of a contraction computed alone where nothing reads the rest."""
    uses = Counter((*graph.outputs, *(number for node in graph.nodes for number in node.inputs)))
    maker = {n: node for node in graph.nodes if node.op.name == "contract" for n in node.outputs if uses[n] == 1}
    parts = {node.inputs[0]: _part(graph, node, maker) for node in graph.nodes if node.op.name == "slice"}
    found: Mapping[int, Node] = {number: part for number, part in parts.items() if part is not None}
    gone = {number for part in found.values() for number in part.outputs}
    nodes = (found.get(node.outputs[0], node) if node.outputs else node for node in graph.nodes)
    kept = (node for node in nodes if not (node.op.name == "slice" and node.outputs[0] in gone))
    return dce(replace(graph, nodes=tuple(kept))) if found else graph


def _part(graph: Graph, node: Node, maker: Mapping[int, Node]) -> Node | None:
    """The part that `node` takes of a contraction, as the contraction of parts."""
    whole, op = maker.get(node.inputs[0]), _any(node.op)
    if whole is None or op.held or any(step != 1 for step in op.steps):
        return None
    letters, shape = _any(whole.op).formula.split("->")[1], graph.values[node.inputs[0]].type.shape
    given = zip(letters, op.starts, op.lengths, shape, strict=True)
    ranges = tuple((letter, (start, start + n)) for letter, start, n, length in given if n < length)
    return replace(whole, op=ContractPart(whole.op, ranges), outputs=node.outputs)


def _any(op: Op) -> Any:
    return op
