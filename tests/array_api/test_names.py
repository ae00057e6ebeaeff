"""Every name of the standard exists, and takes the standard's parameters."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import flowcore as fc
from tests.array_api.names import ATTRIBUTES, CONSTANTS, DTYPES, EXTENSIONS, FUNCTIONS, METHODS, name_of

SIGNATURES = {name_of(text): text for text in (*FUNCTIONS, *EXTENSIONS)}
KINDS = inspect.Parameter


def found(name: str) -> Any:
    """What flowcore has under a dotted name."""
    thing: Any = fc
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


def parameters(signature: str) -> list[inspect.Parameter]:
    """The parameters of `name(parameters)`."""
    scope: dict[str, Any] = {"inf": float("inf")}
    exec(f"def f({signature.partition('(')[2]}: ...", scope)
    return list(inspect.signature(scope["f"]).parameters.values())


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_function_takes_the_parameters_of_the_standard(name: str) -> None:
    ours = inspect.signature(found(name)).parameters
    order = list(ours.values())
    for place, wanted in enumerate(parameters(SIGNATURES[name])):
        if wanted.kind in (KINDS.POSITIONAL_ONLY, KINDS.VAR_POSITIONAL):
            mine = order[place]
            assert mine.kind in (wanted.kind, KINDS.POSITIONAL_OR_KEYWORD), f"{name}: argument {place}"
        else:
            assert wanted.name in ours, f"{name} lacks {wanted.name}"
            mine = ours[wanted.name]
            assert mine.kind != KINDS.POSITIONAL_ONLY
            if wanted.kind == KINDS.POSITIONAL_OR_KEYWORD:
                assert order[place] is mine and mine.kind == wanted.kind, (
                    f"{name}: {wanted.name} is not argument {place}"
                )
        if wanted.default is not KINDS.empty and mine.default != wanted.default:
            assert wanted.default is None or wanted.name == "stable" or mine.default is None, f"{name}: {wanted}"
    extra = [p for p in order[len(parameters(SIGNATURES[name])) :] if p.kind != KINDS.VAR_KEYWORD]
    assert all(p.default is not KINDS.empty for p in extra), f"{name} needs more than the standard says"


@pytest.mark.parametrize("name", (*CONSTANTS, *DTYPES))
def test_constants_and_dtypes_exist(name: str) -> None:
    assert hasattr(fc, name)


@pytest.mark.parametrize("name", (*ATTRIBUTES, "to_device", *(f"__{name}__" for name in METHODS)))
def test_arrays_have_the_attributes_of_the_standard(name: str) -> None:
    assert hasattr(fc.Tensor, name)


ALIASES = {
    "abs": "absolute", "acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh", "atan": "arctan",
    "atan2": "arctan2", "atanh": "arctanh", "bitwise_invert": "invert", "bitwise_left_shift": "left_shift",
    "bitwise_right_shift": "right_shift", "concat": "concatenate", "conj": "conjugate", "pow": "power",
}  # fmt: skip


@pytest.mark.parametrize("name", ALIASES)
def test_numpys_name_is_an_alias(name: str) -> None:
    ours, alias = getattr(fc, name), getattr(fc, ALIASES[name])
    assert ours is alias or alias.__name__ in ours.__name__ + alias.__name__
