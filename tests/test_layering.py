"""Imports go one way: placement ← comm ← flowcore ← launch; late imports and imports by text count too."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("placement", "comm", "flowcore", "launch")  # each may import itself and those before it
FILES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
BY_TEXT = ("import_module", "__import__")
# `fc.launch` is a public name that is loaded when it is first asked for: the one look upwards, at run time only
ALLOWED_BY_TEXT = {("flowcore/__init__.py", "flowcore.launch")}


def imports_of(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, and whether by text; names taken from a package count as its modules."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, False) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=0):
                yield from ((f"{module}.{alias.name}", False) for alias in names)
            case ast.ImportFrom(level=level):
                yield "." * level, False
            case ast.Call(
                func=ast.Name(id=name) | ast.Attribute(attr=name), args=[ast.Constant(value=str(text)), *_]
            ) if name in BY_TEXT:
                yield text, True


def layer_of(module: str) -> str | None:
    """The layer a module belongs to; None for a module that is not ours."""
    top, *rest = module.split(".")
    if top != "flowcore":
        return None
    return rest[0] if rest and rest[0] in LAYERS else "flowcore"


def breaches(path: Path) -> list[str]:
    """What a file imports and must not."""
    own = path.relative_to(ROOT).parts[0]
    name = path.relative_to(ROOT).as_posix()
    found = []
    for module, by_text in imports_of(path):
        layer, top = layer_of(module), module.split(".")[0]
        if by_text and (name, module) in ALLOWED_BY_TEXT:
            continue
        if layer is not None and LAYERS.index(layer) > LAYERS.index(own):
            found.append(f"{module}: {own} must not import {layer}")
        if top in ("placement", "comm", "launch", ""):
            found.append(f"{module!r}: import by the full name, flowcore....")
        if top == "mpi4py" and name != "comm/mpi.py":
            found.append(f"{module}: only comm/mpi.py speaks to mpi4py")
        if top == "numpy" and own == "placement":
            found.append(f"{module}: placement is pure mathematics and needs no numpy")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    assert breaches(path) == []


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("placement/x.py", "import flowcore.comm.boxing", 1),
        ("placement/x.py", "from flowcore import comm", 1),
        ("placement/x.py", "from flowcore import Tensor", 1),
        ("placement/x.py", "def f():\n    import numpy as np", 1),
        ("placement/x.py", "from flowcore.placement import mesh", 0),
        ("comm/x.py", "from flowcore.placement.mesh import Mesh", 0),
        ("comm/x.py", "from flowcore.graph import Graph", 1),
        ("comm/x.py", "from .boxing import box", 1),
        ("comm/x.py", "import placement", 1),
        ("comm/mpi.py", "from mpi4py import MPI", 0),
        ("comm/x.py", "from mpi4py import MPI", 1),
        ("flowcore/x.py", "from importlib import import_module\nimport_module('flowcore.launch')", 1),
        ("flowcore/x.py", "from flowcore.comm import threads, boxing", 0),
        ("flowcore/x.py", "import flowcore.launch.session", 1),
        ("launch/x.py", "import flowcore as fc\nfrom flowcore.comm import threads", 0),
    ],
)
def test_the_check_sees_a_planted_import(
    name: str, text: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text(text)
    assert len(breaches(path)) == count
