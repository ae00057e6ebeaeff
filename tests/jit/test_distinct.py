"""Compiled functions that are made inside others have names of their own: machine code on disk is found by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowcore.jit.store import is_available

FILES = sorted((Path(__file__).resolve().parents[2] / "flowcore" / "jit").glob("*.py"))
COMPILERS = {"exact", "fused", "any_order", "njit", "jit", "cfunc", "vectorize"}
MAKER = "distinct"


def compiles(node: ast.expr) -> bool:
    """Whether an expression is one of numba's compilers, or a call of one."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in COMPILERS
        case ast.Call(func=function):
            return compiles(function)
    return False


def nameless(tree: ast.Module) -> Iterator[int]:
    """The lines inside functions where something is compiled under the name that it was written with."""
    for outer in ast.walk(tree):
        if not isinstance(outer, ast.FunctionDef | ast.Lambda) or getattr(outer, "name", "") == MAKER:
            continue
        body = outer.body if isinstance(outer.body, list) else [outer.body]
        for node in (inner for statement in body for inner in ast.walk(statement)):
            found = [node.func] if isinstance(node, ast.Call) else getattr(node, "decorator_list", [])
            yield from (each.lineno for each in found if compiles(each))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_is_compiled_inside_a_function_but_under_a_name_of_its_own(path: Path) -> None:
    assert list(nameless(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "text",
    ["@exact\n  def g(): pass", "@numba.njit(nogil=True)\n  def g(): pass", "def g(): pass\n  return any_order(g)"],
)
def test_the_check_sees_a_planted_function(text: str) -> None:
    assert list(nameless(ast.parse(f"def f():\n  {text}")))
    assert not list(nameless(ast.parse("@exact\ndef f():\n  def g(): pass\n  return distinct(g, compile=fused)")))


@pytest.mark.skipif(not is_available(), reason="no compiler of loops is installed")
def test_functions_made_from_different_parts_have_different_names() -> None:
    from flowcore.jit.elementary import exp_f4, exp_f8
    from flowcore.jit.lanes import distinct, fused

    def made(*parts: Any, **options: Any) -> str:
        def function(x):  # type: ignore[no-untyped-def]  # numba infers its types
            return x

        return str(distinct(function, *parts, **options).py_func.__qualname__)

    parts = [(np.eye(2), 2), (np.eye(3), 2), (2 * np.eye(2), 2), (np.eye(2), 3), (exp_f4,), (exp_f8,), (12, 3), (1, 23)]
    assert len({made(*each) for each in parts}) == len(parts)
    assert made(np.eye(2), exp_f4) == made(np.eye(2), exp_f4, compile=fused)
