"""What the annotations of public functions and methods declare, held against the arguments of a call.

A function says once, in its signature, what it takes: types, and by `Annotated` the range of a number. What is given
by name, and all that a constructor takes, is checked before the call; the rest when the call raises what is no
FlowcoreError: where an argument is not what is declared, that is the error, else it stays as it was raised. So a call
that is right pays nothing but the look at its options.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from inspect import Parameter, Signature, signature, unwrap
from math import inf
from numbers import Complex, Integral, Real
from types import FunctionType, NoneType, UnionType
from typing import Annotated, Any, ForwardRef, Literal, TypeVar, Union, get_args, get_origin

import numpy as np

from flowcore.errors import ArgumentError, DTypeError, FlowcoreError, ShapeError
from flowcore.op import FUNCTIONS
from flowcore.tensor import Tensor

__all__ = [
    "Count", "Counts", "Finite", "Length", "Natural", "Positive", "Probability", "Rate", "Sizes", "Within",
    "check_options", "declare", "fits", "hints",
]  # fmt: skip

RAW = TypeError, ValueError, AttributeError, LookupError, ArithmeticError, NameError, MemoryError
CONSTRUCTED = "flowcore.nn", "flowcore.optim", "flowcore.data", "flowcore.mixed", "flowcore.compression"
"""The modules and packages whose constructors check all they are given."""
THEMSELVES = ("compile",)
"""What checks all they are given, with errors of their own."""
MOST = sys.float_info.max
SHOWN = 60
"""The most characters of a value that an error shows."""


@dataclass(frozen=True)
class Within:
    """A number from `low` to `high`; is_open: `low` itself is none of them."""

    low: float = -inf
    high: float = inf
    is_open: bool = False

    def holds(self, value: Any) -> bool:
        """Whether `value`, of the type declared, is in the range; nan never is."""
        items: Any = value if isinstance(value, Sequence) else np.ravel(value) if _is_numpy(value) else (value,)
        # numpy compares in the dtype of its own number, which may not reach as far as the range
        numbers: list[Any] = [each.item() if _is_numpy(each) else each for each in items if _is_number(each)]
        return all((self.low < each if self.is_open else self.low <= each) and each <= self.high for each in numbers)

    def __str__(self) -> str:
        if self.low == -MOST:
            return "that is finite"
        low = f"above {self.low:g}" if self.is_open else f"from {self.low:g}"
        return low if self.high in (inf, MOST) else f"{low} to {self.high:g}"


def _is_numpy(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) or (_is_numpy(value) and value.ndim == 0)


Count = Annotated[int, Within(1)]
Length = Annotated[int, Within(0)]
Counts = Annotated[int | Sequence[int], Within(1)]
Sizes = Annotated[int | Sequence[int], Within(0)]
Finite = Annotated[float, Within(-MOST, MOST)]
Natural = Annotated[float, Within(0, MOST)]
Rate = Annotated[float, "a learning rate", Within(0, MOST)]
Positive = Annotated[float, Within(0, MOST, is_open=True)]
Probability = Annotated[float, Within(0, 1)]

F = TypeVar("F", bound=Callable[..., Any])


def declare(*namespaces: dict[str, Any]) -> None:
    """Let the functions and classes that are public in modules of flowcore hold their arguments against these."""
    for namespace in namespaces:
        for name in namespace.get("__all__") or _public(namespace):
            found = namespace[name]
            home = getattr(found, "__module__", None) or ""
            if not home.startswith("flowcore") or name in THEMSELVES:
                continue
            if isinstance(found, FunctionType):
                namespace[name] = _declare_function(found, vars(sys.modules[home]))
            elif isinstance(found, type) and not issubclass(found, BaseException):
                for each in found.__mro__:
                    if each.__module__.startswith("flowcore"):
                        _declare_methods(each)


def _public(namespace: Mapping[str, Any]) -> list[str]:
    """The names of a module that has no list: what it defines; all where it only gathers what others define."""
    names = [name for name, found in namespace.items() if not name.startswith("_") and callable(found)]
    return [name for name in names if getattr(namespace[name], "__module__", "") == namespace["__name__"]] or names


def _declare_function(function: Any, home: dict[str, Any]) -> Any:
    """`function` in its checked form, which takes its place in its own module and among the methods of tensors."""
    name, known = function.__name__, home.get(function.__name__)
    if getattr(known, "__wrapped__", None) is function:
        return known
    checked = declared(function, name)
    if known is function:
        home[name] = checked
    if FUNCTIONS.get(name) is function:
        FUNCTIONS[name] = checked
    return checked


def _declare_methods(kind: type) -> None:
    for name, found in list(vars(kind).items()):
        is_made = name == "__init__"
        if (name.startswith("_") and not is_made) or (is_made and kind is Tensor):
            continue
        called = "" if is_made else f"{kind.__name__}.{name}"
        if isinstance(found, FunctionType):
            setattr(kind, name, declared(found, called, is_made and kind.__module__.startswith(CONSTRUCTED)))
        elif isinstance(found, classmethod):
            setattr(kind, name, classmethod(declared(found.__func__, called)))


def declared(function: F, name: str, is_whole: bool = False) -> F:
    """`function`, whose wrong arguments are typed errors under `name`; is_whole: all are checked before the call.

    name: empty for a constructor, whose errors name the class of what it makes.
    """
    if hasattr(function, "__declares__"):
        return function
    # who takes functions transforms them or starts something, and is seldom called
    is_whole = is_whole or _takes_functions(function)
    right: dict[str, Container[type]] = {}

    @wraps(function)
    def checked(*arguments: Any, **options: Any) -> Any:
        if is_whole:
            _check(function, name or type(arguments[0]).__name__, arguments, options)
        elif options:
            if not right:
                right.update(_right_types(function))
            for option, value in options.items():
                if option in right and type(value) not in right[option] and not fits(value, hints(function)[option]):
                    raise _error(name or type(arguments[0]).__name__, option, value, hints(function)[option])
        try:
            return function(*arguments, **options)
        except RAW as error:
            if not isinstance(error, FlowcoreError):
                _check(function, name or type(arguments[0]).__name__, arguments, options, error)
            raise

    checked.__declares__ = True  # type: ignore[attr-defined]  # a mark: it is declared once
    return checked  # type: ignore[return-value]  # the same signature


def _right_types(function: Callable[..., Any]) -> dict[str, Container[type]]:
    """Per option the types of which every value is right; of options that are no numbers, text and the like none."""
    return {name: _types(hint) for name, hint in hints(function).items() if _is_plain(hint)}


def _types(hint: Any) -> frozenset[type]:
    if get_origin(hint) in (Union, UnionType):
        return frozenset[type]().union(*map(_types, get_args(hint)))
    return frozenset({NoneType} if hint is None else {float, int, bool} if hint is float else {hint} & {*PLAIN})


def _takes_functions(function: Callable[..., Any]) -> bool:
    """Whether a call needs functions; a look at the text comes first, for signatures take long to make."""
    if not any("Callable" in str(hint) for hint in getattr(function, "__annotations__", {}).values()):
        return False
    needed = [each for each in signature(function).parameters.values() if each.default is Parameter.empty]
    return any("Callable" in str(each.annotation) for each in needed)


def check_options(
    function: Callable[..., Any], name: str, arguments: Sequence[Any], options: Mapping[str, Any]
) -> None:
    """Hold what a call of `function` gets after its first argument against what it declares; `name` is in errors.

    TypeError, as Python's own, where there are too many.
    """
    _signature(function).bind(None, *arguments, **options)
    _check(function, name, (None, *arguments), options, first=1)


def _check(
    function: Callable[..., Any],
    name: str,
    arguments: Sequence[Any],
    options: Mapping[str, Any],
    cause: BaseException | None = None,
    first: int = 0,
) -> None:
    """Raise the error of the first argument that is not what is declared; wrong numbers of them are Python's."""
    form, rules = _signature(function), hints(function)
    try:
        given = form.bind(*arguments, **options).arguments
    except TypeError:
        return
    for option, value in list(given.items())[first:]:
        if option not in rules:
            continue
        kind = form.parameters[option].kind
        is_many = kind is Parameter.VAR_POSITIONAL
        for one in value if is_many else value.values() if kind is Parameter.VAR_KEYWORD else (value,):
            if not fits(one, rules[option]):
                raise _error(name, option, one, rules[option]) from cause


def _error(name: str, option: str, value: Any, hint: Any) -> FlowcoreError:
    if fits(value, hint, in_range=False):
        kind = ArgumentError if isinstance(value, float | complex) else ShapeError
        return kind(f"{name}: {option}={_short(value)} is out of range: pass {described(hint)}")
    return DTypeError(f"{name}: {option}={_short(value)} is of type {type(value).__name__}: pass {described(hint)}")


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


@cache
def _signature(function: Callable[..., Any]) -> Signature:
    return signature(function)


@cache
def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """What every parameter declares, where that can be told; a name known to type checkers only declares nothing."""
    scope = getattr(unwrap(function), "__globals__", {})
    found = {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        try:
            found[name] = eval(hint, scope) if isinstance(hint, str) else hint
        except (NameError, TypeError):
            continue
    found.pop("return", None)
    return found


def fits(value: Any, hint: Any, in_range: bool = True) -> bool:
    """Whether `value` is what `hint` declares; numbers of numpy are numbers, a bool is no integer.

    in_range False: whatever the ranges of numbers.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return fits(value, parts[0], in_range) and not (
            in_range and any(isinstance(rule, Within) and not rule.holds(value) for rule in parts[1:])
        )
    if origin in (Union, UnionType):
        return any(fits(value, part, in_range) for part in parts)
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool) and not (in_range and abs(int(value)) >> 63)
    if hint in (Any, object):
        return True
    if hint in NUMBERS and isinstance(value, np.ndarray | Tensor):
        return value.ndim == 0 and value.dtype.kind in NUMBERS[hint]
    kind = PLAIN.get(hint, hint if origin is None else origin)
    if not isinstance(kind, type | tuple):
        return True
    if kind is tuple:
        return isinstance(value, tuple | list) and _items_fit(value, parts, in_range)
    if kind in (Sequence, Iterable):
        given = value.tolist() if isinstance(value, np.ndarray) and value.ndim == 1 else value
        if isinstance(value, Tensor | str | bytes) or not isinstance(given, kind):
            return False
        return not isinstance(given, Collection) or all(fits(item, parts[0], in_range) for item in given)
    if kind is Mapping:
        pairs = value.items() if isinstance(value, Mapping) else [(None, None)]
        return isinstance(value, Mapping) and all(_items_fit(pair, parts, in_range) for pair in pairs)
    return callable(value) if origin is Callable else isinstance(value, kind)


def _items_fit(value: Sequence[Any], parts: tuple[Any, ...], in_range: bool) -> bool:
    if len(parts) == 2 and parts[1] is Ellipsis:
        return all(fits(item, parts[0], in_range) for item in value)
    pairs = zip(value, parts, strict=False)
    return not parts or (len(value) == len(parts) and all(fits(item, part, in_range) for item, part in pairs))


PLAIN: dict[Any, Any] = {
    int: int, bool: (bool, np.bool_), float: Real, complex: Complex, str: str, None: NoneType, NoneType: NoneType,
}  # fmt: skip
NUMBERS = {float: "fiub", complex: "cfiub"}
WORDS = {
    int: "an int", bool: "True or False", float: "a number", complex: "a number", str: "text", NoneType: "None",
    None: "None", Tensor: "a tensor (asarray makes one)",
}  # fmt: skip


def _is_plain(hint: Any) -> bool:
    """Whether it declares numbers, text, functions and sequences of these, as options are."""
    if hint in PLAIN or hint in (Ellipsis, Callable) or get_origin(hint) in (Literal, Callable):
        return True
    parts = get_args(hint)
    if get_origin(hint) is Annotated:
        return _is_plain(parts[0])
    return get_origin(hint) in (Union, UnionType, tuple, Sequence) and all(map(_is_plain, parts))


def described(hint: Any) -> str:
    """In words what `hint` declares, as in "an int from 1, or a sequence of these"."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        words = "".join(f"{word}, " for word in parts[1:] if isinstance(word, str))
        return f"{words}{described(parts[0])} {' '.join(str(rule) for rule in parts[1:] if isinstance(rule, Within))}"
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(described, parts)))
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if hint in WORDS:
        return WORDS[hint]
    if origin is tuple:
        return f"({', '.join('…' if part is Ellipsis else described(part) for part in parts)})"
    if origin in (Sequence, Iterable):
        return f"a sequence, each {described(parts[0])}"
    if origin is Callable:
        return "a function"
    if isinstance(hint, TypeVar | ForwardRef):
        return "any value"
    kind = hint if origin is None else origin
    return f"a {getattr(kind, '__name__', kind)}"
