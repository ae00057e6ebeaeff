"""Modules made of a sequence of modules; their parts are named 0, 1, …"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, overload

from flowcore.nn.module import Module


class ModuleList(Module):
    """A list of modules, without a forward of its own."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self._items = list(modules)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        yield from ((str(index), module) for index, module in enumerate(self._items))

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end; returns self."""
        self._items.append(module)
        return self

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._items)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> list[Module]: ...
    def __getitem__(self, index: int | slice) -> Module | list[Module]:
        return self._items[index]


class Sequential(ModuleList):
    """y = m_n(… m_1(x))."""

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        """Each module applied to the result of the one before."""
        for module in self._items:
            x = module(x)
        return x
