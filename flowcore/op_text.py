"""Operators read back from their text."""

from __future__ import annotations

import ast
import math
from typing import Any

from flowcore.errors import GraphError
from flowcore.op import OPS, Op

NON_FINITE = {"inf": math.inf, "nan": math.nan}


def parse_op(text: str, **bodies: Any) -> Op:
    """The operator that `Op.text` writes, given its graphs."""
    name, _, attributes = text.partition("{")
    if name not in OPS:
        raise GraphError(f"unknown operator {name!r}: import the module that defines it before reading the graph")
    call = ast.parse(f"f({attributes.rstrip('}')})", mode="eval").body
    if not isinstance(call, ast.Call):
        raise GraphError(f"cannot read operator {text!r}")
    return OPS[name](
        **{item.arg: ast.literal_eval(_NonFinite().visit(item.value)) for item in call.keywords if item.arg},
        **bodies,
    )


class _NonFinite(ast.NodeTransformer):
    """The names `inf` and `nan`, as `repr` writes them, are the floats."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(NON_FINITE[node.id]) if node.id in NON_FINITE else node
