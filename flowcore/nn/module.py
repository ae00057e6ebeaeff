"""Modules: trees of parameters and buffers with a forward function, and where these lie.

Parameters and submodules are the attributes of a module (also those in a list or tuple); their names are the paths to
them, as in `layers.0.weight`. Placing a module changes where its tensors lie, never which tensors they are, so that an
optimizer made before goes on working.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Self

import numpy as np

from flowcore.dispatch import asarray, default_layout, to_global
from flowcore.dtypes import as_dtype, is_real
from flowcore.errors import CheckpointError, PlacementError, ShapeError, TraceError
from flowcore.grad import no_grad
from flowcore.placement.layout import Layout, kept
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import SbpLike
from flowcore.tensor import Tensor
from flowcore.tree import replaced
from flowcore.untraced import become, relay
from flowcore.world import current


class Parameter(Tensor):
    """A tensor that a module owns and an optimizer changes.

    is_sparse: a step may change only the rows that a batch names; an optimizer that would change all refuses it.
    """

    __slots__ = ("is_sparse",)

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        tensor = asarray(data)
        if tensor.trace is not None:
            raise TraceError("a parameter cannot be made inside a compiled function: create the module outside")
        super().__init__(tensor.value, tensor.block)
        self.requires_grad = requires_grad
        self.is_sparse = False


class Module:
    """A function with parameters; subclasses define `forward`."""

    _training: bool
    _buffers: tuple[str, ...]

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        made = super().__new__(cls)
        made._training = True
        made._buffers = ()
        return made

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """The result of the module; called by `module(…)`."""
        raise NotImplementedError(f"{type(self).__name__} has no forward: define it")

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """`forward` of the arguments, with tensors for the arrays among them."""
        arguments, options = replaced((arguments, options), (np.ndarray,), asarray)
        return self.forward(*arguments, **options)

    # training or evaluation

    @property
    def training(self) -> bool:
        """Whether layers such as Dropout act as in training; a compiled function that reads it follows its changes."""
        value, trace = self._training, current().trace
        if trace is not None:
            trace.guards.append(lambda: self._training == value)
        return value

    def train(self, mode: bool = True) -> Self:
        """Set `training` of this module and all below it; returns self."""
        for _, module in self.named_modules():
            module._training = mode
        return self

    def eval(self) -> Self:
        """`train(False)`."""
        return self.train(False)

    # the tree

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below, by attribute; those in a list or tuple by attribute and index."""
        for name, value in vars(self).items():
            match value:
                case Module():
                    yield name, value
                case list() | tuple():
                    yield from ((f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, Module))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, each once, by path."""
        seen: set[int] = set()
        for name, module in self._walk(prefix):
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def _walk(self, prefix: str) -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(_path(prefix, name))

    def own_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters and buffers that are attributes of this very module."""
        for name, value in vars(self).items():
            match value:
                case Parameter():
                    yield name, value
                case Tensor() if name in self._buffers:
                    yield name, value
                case list() | tuple():
                    yield from ((f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, Parameter))

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter and buffer under every path; one that is shared appears under each of its paths."""
        for prefix, module in self._walk(""):
            yield from ((_path(prefix, name), tensor) for name, tensor in module.own_tensors())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, by its first path."""
        seen: set[int] = set()
        for name, tensor in self.named_tensors():
            if isinstance(tensor, Parameter) and id(tensor) not in seen:
                seen.add(id(tensor))
                yield name, tensor

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Every buffer, by path."""
        return ((name, tensor) for name, tensor in self.named_tensors() if not isinstance(tensor, Parameter))

    def register_buffer(self, name: str, tensor: Tensor) -> None:
        """Make `tensor` the attribute `name`: saved and placed with the module, but not trained."""
        setattr(self, name, tensor)
        self._buffers = (*self._buffers, name)

    # where it lies

    def place(self, placement: Placement | None = None, sbp: Mapping[str, SbpLike] | None = None) -> Self:
        """Lay every parameter and buffer out on `placement`; returns self.

        sbp: patterns over names (as in shell: `*`, `?`, `[…]`) to layouts; the last that matches a name decides, and
        a tensor that none matches is B. PlacementError where a pattern matches nothing or a split does not fit.
        """
        _outside_trace("placed")
        mesh = default_layout(placement, None).placement
        patterns = {} if sbp is None else sbp
        named = dict(self.named_tensors())
        _check_patterns(patterns, named)
        targets = {name: _target(name, tensor, mesh, patterns) for name, tensor in named.items()}
        for name, tensor in named.items():
            relay(tensor, targets[name])
        return self

    def astype(self, dtype: Any) -> Self:
        """Cast every floating parameter and buffer in place; returns self."""
        _outside_trace("cast")
        wanted = as_dtype(dtype)
        for _, tensor in self.named_tensors():
            if is_real(tensor.dtype) and tensor.dtype != wanted:
                with no_grad():
                    become(tensor, tensor.astype(wanted))
                    tensor._grad = None
        return self

    # saving

    def state_dict(self) -> dict[str, Tensor]:
        """The values of all parameters and buffers as they are now, by path."""
        return {name: tensor.detach() for name, tensor in self.named_tensors()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Take over the values in `state` (tensors or arrays), each keeping the layout and dtype it has here.

        CheckpointError where names are missing or unknown (unless `strict` is False), ShapeError where a shape differs;
        then nothing has changed.
        """
        _outside_trace("loaded")
        named = dict(self.named_tensors())
        missing, unknown = [n for n in named if n not in state], [n for n in state if n not in named]
        if strict and (missing or unknown):
            raise CheckpointError(
                f"the state does not fit {type(self).__name__}: missing {missing}, unknown {unknown}; "
                f"load the state of the same module, or pass strict=False"
            )
        given = {
            name: asarray(state[name], placement=_source(state[name], t)) for name, t in named.items() if name in state
        }
        for name, new in given.items():
            if new.shape != named[name].shape:
                raise ShapeError(f"{name} has shape {named[name].shape} but the state gives {new.shape}")
        with no_grad():
            for name, new in given.items():
                tensor = named[name]
                become(tensor, to_global(new.astype(tensor.dtype), tensor.placement, tensor.sbp))

    def __repr__(self) -> str:
        lines = [f"  ({name}): {repr(child).replace(chr(10), chr(10) + '  ')}" for name, child in self.named_children()]
        own = self.describe()
        return (
            f"{type(self).__name__}({own})" if not lines else "\n".join((f"{type(self).__name__}({own}", *lines, ")"))
        )

    def describe(self) -> str:
        """The options shown between the parentheses of `repr`."""
        return ""


def _outside_trace(what: str) -> None:
    if current().trace is not None:
        raise TraceError(f"a module cannot be {what} inside a compiled function: do it before")


def _path(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _source(given: Any, like: Tensor) -> Placement | None:
    """Where an array of a state is taken up: beside the tensor it is for; a tensor stays where it is."""
    return None if isinstance(given, Tensor) else like.placement


def _check_patterns(patterns: Mapping[str, SbpLike], named: Mapping[str, Tensor]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in named):
            raise PlacementError(f"pattern {pattern!r} matches no parameter: there are {', '.join(named) or 'none'}")


def _target(name: str, tensor: Tensor, mesh: Placement, patterns: Mapping[str, SbpLike]) -> Layout:
    sbp: SbpLike = "B"
    for pattern, wanted in patterns.items():
        if fnmatchcase(name, pattern):
            sbp = wanted
    try:
        return kept(Layout(mesh, sbp).of(tensor.ndim))
    except PlacementError as error:
        raise PlacementError(f"{name} of shape {tensor.shape}: {error}") from None
