"""Tensors inside nested tuples, lists and dicts: taken out in order, and put back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flowcore.tensor import Tensor

Rebuild = Callable[[Sequence[Any]], Any]


def flatten(tree: Any) -> tuple[list[Tensor], Rebuild]:
    """The tensors of `tree` (dicts by insertion order), and the function that builds the same tree from others."""
    leaves: list[Tensor] = []
    form = _strip(tree, leaves)
    return leaves, lambda found: _fill(form, iter(found))


def replaced(tree: Any, kinds: tuple[type, ...], make: Callable[[Any], Any]) -> Any:
    """`tree` with every leaf that is of one of `kinds` replaced by what `make` makes of it."""
    match tree:
        case tuple() if hasattr(tree, "_fields"):
            return type(tree)(*(replaced(item, kinds, make) for item in tree))
        case tuple() | list():
            return type(tree)(replaced(item, kinds, make) for item in tree)
        case dict():
            return {key: replaced(item, kinds, make) for key, item in tree.items()}
    return make(tree) if isinstance(tree, kinds) else tree


def opened(tree: Any, leaves: list[Tensor], make: Callable[[Any], Tensor]) -> Any:
    """`structure(tree)`, whose tensors go to `leaves`, and arrays of numpy as the tensors that `make` makes of them."""
    if isinstance(tree, Tensor):
        leaves.append(tree)
        return _LEAF
    if isinstance(tree, tuple | list):
        return (type(tree), *[opened(item, leaves, make) for item in tree])
    if isinstance(tree, dict):
        return (dict, *[(key, opened(item, leaves, make)) for key, item in tree.items()])
    if isinstance(tree, np.ndarray):
        leaves.append(make(tree))
        return _LEAF
    return structure(tree)


def structure(tree: Any) -> Any:
    """What `tree` is apart from its tensors, as a hashable value."""
    match tree:
        case Tensor():
            return _LEAF
        case tuple() | list():
            return (type(tree), *(structure(item) for item in tree))
        case dict():
            return (dict, *((key, structure(item)) for key, item in tree.items()))
        case float():
            return (type(tree), repr(tree))  # -0.0 is not 0.0, and nan is nan
    return (type(tree), tree)


class _Leaf:
    """Stands for a tensor."""

    def __repr__(self) -> str:
        return "tensor"


_LEAF = _Leaf()


def _strip(tree: Any, leaves: list[Tensor]) -> Any:
    match tree:
        case Tensor():
            leaves.append(tree)
            return _LEAF
        case tuple() if hasattr(tree, "_fields"):
            return type(tree)(*(_strip(item, leaves) for item in tree))
        case tuple() | list():
            return type(tree)(_strip(item, leaves) for item in tree)
        case dict():
            return {key: _strip(item, leaves) for key, item in tree.items()}
    return tree


def _fill(form: Any, found: Any) -> Any:
    if form is _LEAF:
        return next(found)
    match form:
        case tuple() if hasattr(form, "_fields"):
            return type(form)(*(_fill(item, found) for item in form))
        case tuple() | list():
            return type(form)(_fill(item, found) for item in form)
        case dict():
            return {key: _fill(item, found) for key, item in form.items()}
    return form
