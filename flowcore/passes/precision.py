"""Mixed precision: a logical graph in float32 → the same where sums of products read and give a narrow dtype.

Parameters stay float32 and are cast once, for all that reads them. Sums of products (and what else says `precision =
"narrow"`) take and give narrow numbers; what only moves elements does so in the dtype that it is given; everything
else computes in float32, as sums of losses, statistics of norms and softmax need. Casts are elementwise, so loops have
them as loads and stores, and a value crosses ranks before it is made wider: gradients and gathered parameters in half
the bytes. What the graph takes and gives has the dtypes it had.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from flowcore.dtypes import DType, float32
from flowcore.errors import DTypeError
from flowcore.graph import Builder, Graph, Node, Value
from flowcore.op import OPS, Op, Type


def lowered(graph: Graph, dtype: DType) -> Graph:
    """`graph` computed in float32 and the narrow `dtype`; DTypeError where it has sums of products, none in float32."""
    found = dict(_products(graph))
    if found and not {float32, dtype} & {*found}:
        read, where = next(iter(found.items()))
        raise DTypeError(
            f"precision of {dtype}: sums of products are computed so where they read float32, but here all read "
            f"{read}, as at {where}: make parameters and inputs float32, or leave precision out"
        )
    return _Lowering(graph, dtype).run()


def _products(graph: Graph) -> Iterator[tuple[DType, str]]:
    """The dtype, and the line of the user's, of what sums of products read that are not of integers."""
    for node in graph.nodes:
        for name in node.op.bodies:
            yield from _products(getattr(node.op, name))
        types = graph.types(node.inputs)
        dtypes = [type.dtype for type in types if type.dtype.kind not in "biu"]
        if dtypes and not node.op.bodies and precision_of(node.op, types) == "narrow":
            yield from ((dtype, node.where) for dtype in dtypes)


def precision_of(op: Op, types: tuple[Type, ...]) -> str:
    """Where `op` computes: "narrow", "same" (in the dtype of its operands) or "full".

    By default narrow where it sums products of operands in each of which it is linear.
    """
    if op.precision:
        return op.precision
    if types and (op.loop == "same" or not op.flops(*types)):
        return "same"
    equation, algebra = op.equation(*types), op.properties(*types)
    sums = equation is not None and any(letter not in "".join(equation.outputs) for letter in equation.letters)
    return "narrow" if sums and algebra.reduction == "sum" and len(algebra.linear) > 1 else "full"


class _Lowering:
    def __init__(self, graph: Graph, dtype: DType) -> None:
        self.graph, self.dtype = graph, dtype
        self.builder = Builder()
        self.held: dict[int, dict[DType, int]] = {}
        """Per value of the graph those that hold it, by dtype; first the one that was computed."""
        self.moved: dict[int, Node] = {}
        """Per value that is another one moved, its elements all kept, the node that does it."""
        self.users: dict[int, list[Node]] = {}
        for node in graph.nodes:
            for number in node.inputs:
                self.users.setdefault(number, []).append(node)

    def run(self) -> Graph:
        """The new graph."""
        for number in self.graph.inputs:
            value = self.graph.values[number]
            self.held[number] = {value.type.dtype: self.builder.input(value)}
        for node in self.graph.nodes:
            self._add(node)
        outputs = [self._read(number, self.graph.values[number].type.dtype) for number in self.graph.outputs]
        return self.builder.graph(outputs)

    def _add(self, node: Node) -> None:
        op = replace(node.op, **{name: _Lowering(getattr(node.op, name), self.dtype).run() for name in node.op.bodies})
        types = self.graph.types(node.inputs)
        wide = [number for number, type in zip(node.inputs, types, strict=True) if type.dtype == float32]
        where = precision_of(op, types) if wide and not op.bodies else "full"
        is_narrow = where == "narrow" or (where == "same" and all(self._computed(n) == self.dtype for n in wide))
        taken = [self._read(n, self.dtype if is_narrow and n in wide else self.graph.values[n].type.dtype)
                 for n in node.inputs]  # fmt: skip
        stated = [self.graph.values[number] for number in node.outputs]
        made = op.infer(*(self.builder.values[n].type for n in taken)) if is_narrow else [v.type for v in stated]
        results = [replace(value, type=type) for value, type in zip(stated, made, strict=True)]
        numbers = self.builder.node(op, taken, results, node.where, node.reason)
        self.builder.nodes[-1] = replace(self.builder.nodes[-1], reads=node.reads)
        for old, new, type in zip(node.outputs, numbers, made, strict=True):
            self.held[old] = {type.dtype: new}
        if where == "same" and not is_narrow and self._may_follow(node):
            self.moved[node.outputs[0]] = node

    def _may_follow(self, node: Node) -> bool:
        """Whether what `node` moves may be cast before: as many elements, and no byte crosses ranks twice for that."""
        inputs, (result, *_) = self.graph.types(node.inputs), self.graph.types(node.outputs)
        if len(inputs) != 1 or inputs[0].size != result.size:
            return False
        users = self.users.get(node.outputs[0], [])
        return not node.op.spans or (
            node.outputs[0] not in self.graph.outputs
            and all(precision_of(user.op, self.graph.types(user.inputs)) == "narrow" for user in users)
        )

    def _computed(self, number: int) -> DType:
        return next(iter(self.held[number]))

    def _read(self, number: int, dtype: DType) -> int:
        """The value as `dtype`, cast at most once."""
        held = self.held[number]
        if dtype == self.dtype and dtype not in held and number in self.moved:
            node = self.moved[number]
            old = self.graph.values[number]
            source = self._read(node.inputs[0], dtype)
            result = replace(old, type=replace(old.type, dtype=dtype))
            (held[dtype],) = self.builder.node(node.op, [source], [result], node.where, node.reason)
        elif dtype not in held:
            value = self.builder.values[held[self._computed(number)]]
            made = Value(replace(value.type, dtype=dtype), value.placement)
            cast: Op = OPS["cast"](dtype.name)  # type: ignore[call-arg]  # a cast's attribute
            (held[dtype],) = self.builder.node(cast, [held[self._computed(number)]], [made])
        return held[dtype]
