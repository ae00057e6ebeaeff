"""Derivatives in every direction, all from reverse mode: forward mode, Jacobians, Hessians.

The gradient of f at x for a cotangent dy is linear in dy. The transpose of that linear map is the derivative of f, so
forward mode is the gradient, with respect to dy, of the gradient: no operator needs a rule for it. The linear map is
staged as a graph, and what its transpose does not need (its value at dy) is dropped before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

from flowcore.errors import GradError
from flowcore.grad import (
    adopted,
    argument_numbers,
    as_leaf,
    grad,
    grad_enabled,
    gradients,
    places_of,
    variables,
    vjp,
    zeros_like,
)
from flowcore.ops.create import eye
from flowcore.staging import replay, stage, symbolic
from flowcore.tensor import Tensor
from flowcore.tree import Rebuild, flatten
from flowcore.vmap import vmap
from flowcore.world import current

__all__ = ["hessian", "jacobian", "jvp"]


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """(f(*primals), its derivative at `primals` along `tangents`), both laid out as f's result.

    Primals and tangents are equal trees of tensors. has_aux: f returns (result, more), and this returns more as well.
    """
    arguments, leaves, _ = variables(tuple(primals), range(len(primals)))
    directions, _ = flatten(adopted(tuple(tangents)))
    if [x.shape for x in directions] != [x.shape for x in leaves]:
        raise GradError(
            f"jvp with tangents of shapes {[x.shape for x in directions]} for primals of {[x.shape for x in leaves]}: "
            f"pass one for each primal, shaped as it"
        )
    since = current().sequence
    with grad_enabled(True):
        result = f(*arguments)
    value, *more = result if has_aux else (result,)
    outputs, rebuild = flatten(value)
    return value, rebuild(_forward(outputs, leaves, directions, since)), *more


def _forward(outputs: list[Tensor], leaves: list[Tensor], directions: list[Tensor], since: int) -> list[Tensor]:
    """The derivatives of `outputs` along `directions` of `leaves`; integers have none, which counts as 0."""
    free = [output for output in outputs if output.requires_grad]

    def transposed(*symbols: Tensor) -> list[Tensor]:
        cotangents = [as_leaf(symbol) for symbol in symbols]
        now = current().sequence
        found = gradients(free, cotangents, leaves, since)
        return gradients(found, directions, cotangents, now)

    staged = stage(transposed, [symbolic(output) for output in free], "jvp")
    # the cotangents matter to nothing that is left, but the graph has inputs for them
    rates = iter(replay(staged.graph, [*map(zeros_like, free), *staged.captured]))
    return [next(rates) if output.requires_grad else zeros_like(output) for output in outputs]


def jacobian(f: Callable[..., Any], argnums: int | Sequence[int] = 0, mode: str = "reverse") -> Callable[..., Any]:
    """A function giving the derivative of every element of f's result by every element of its arguments `argnums`.

    For a result of shape (r…) and an argument of shape (a…) it has shape (r…, a…). It is a tree like the result whose
    tensors are trees like the argument (for several argnums a tuple of these). mode: "reverse" differentiates once
    per element of the result, "forward" once per element of the arguments, all of them at the same time (`vmap`).
    """
    if mode not in MODES:
        raise GradError(f"jacobian with mode={mode!r}: it is one of {', '.join(MODES)}")
    numbers = argument_numbers(argnums)

    @wraps(f)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        places = places_of(numbers, len(arguments))

        def chosen(*parts: Any) -> Any:
            given = list(arguments)
            for place, part in zip(places, parts, strict=True):
                given[place] = part
            return f(*given, **options)

        rows, rebuild = MODES[mode](chosen, tuple(adopted(arguments[place]) for place in places))
        return rebuild([row if isinstance(argnums, Iterable) else row[0] for row in rows])

    return wrapped


def _reverse(f: Callable[..., Any], primals: tuple[Any, ...]) -> tuple[Any, Rebuild]:
    """Per tensor of the result the tree of derivatives by `primals`, and the tree to put them in."""
    value, pull = vjp(f, *primals)
    outputs, rebuild = flatten(value)
    rows = []
    for place, output in enumerate(outputs):

        def pulled(row: Tensor, place: int = place) -> Any:
            return pull([row if other == place else zeros_like(x) for other, x in enumerate(outputs)])

        found, build = flatten(vmap(pulled)(_units(output)))
        rows.append(build([x.reshape((*output.shape, *x.shape[1:])) for x in found]))
    return rows, rebuild


def _forward_mode(f: Callable[..., Any], primals: tuple[Any, ...]) -> tuple[Any, Rebuild]:
    """As `_reverse`."""
    leaves, build = flatten(primals)
    value, rebuild = flatten(f(*primals))
    columns: list[list[Tensor]] = []
    for place, leaf in enumerate(leaves):

        def pushed(column: Tensor, place: int = place) -> Any:
            along = [column if other == place else zeros_like(x) for other, x in enumerate(leaves)]
            return flatten(jvp(f, primals, build(along))[1])[0]

        found = vmap(pushed, out_axes=-1)(_units(leaf))
        columns.append([x.reshape((*x.shape[:-1], *leaf.shape)) for x in found])
    return [build([column[number] for column in columns]) for number in range(len(value))], rebuild


MODES = {"reverse": _reverse, "forward": _forward_mode}


def _units(x: Tensor) -> Tensor:
    """(x.size, *x.shape): every tensor like `x` that is 1 in one place and 0 elsewhere."""
    return eye(x.size, dtype=x.dtype, placement=x.placement).reshape((x.size, *x.shape))


def hessian(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function giving the second derivatives of f's scalar result: the forward Jacobian of its gradient."""
    return jacobian(grad(f, argnums), argnums, mode="forward")
