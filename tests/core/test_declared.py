"""Every public callable, with what nobody should pass in the place of every argument: a typed error or a result.

What an option declares decides: where a value is not of that type, there is an error that names the option, or the
function can do with it all the same; what comes out of Python or numpy from deep inside is a defect.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from inspect import Parameter, Signature, signature
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.declared import fits, hints

X = np.arange(16.0, dtype="float32").reshape(4, 4) + 1


def ramp(*shape: int) -> fc.Tensor:
    """1, 2, 3 … in float32."""
    return fc.asarray(np.arange(1, 1 + np.prod(shape, dtype=int), dtype="float32").reshape(shape))


def whole(*shape: int) -> fc.Tensor:
    """Ones in int64."""
    return fc.ones(shape, dtype="int64")


def x() -> fc.Tensor:
    return fc.asarray(X)


def flags() -> fc.Tensor:
    return fc.asarray(X > 3)


def parameters() -> list[Any]:
    return list(fc.nn.Linear(2, 2).parameters())


def optimizer() -> Any:
    return fc.optim.SGD(parameters(), lr=0.1)


def with_gradients() -> list[Any]:
    layer = fc.nn.Linear(2, 2)
    layer(ramp(2, 2)).sum().backward()
    return list(layer.parameters())


BY_DECLARATION: dict[str, Callable[[], Any]] = {
    "TensorLike": x, "Tensor": x, "Sequence[TensorLike]": lambda: [x()], "Sequence[Any]": lambda: [x()],
    "int": lambda: 1, "Count": lambda: 1, "Length": lambda: 1, "Counts": lambda: 2, "Sizes": lambda: 2,
    "Count | Sequence[int | None]": lambda: 2, "Lengths": lambda: 2, "int | Sequence[int]": lambda: 1,
    "Shape": lambda: (2, 2), "Sequence[int]": lambda: (0,), "int | TensorLike": lambda: 2, "Axis": lambda: None,
    "int | Sequence[int] | None": lambda: 0, "float": lambda: 0.5, "complex": lambda: 0.0, "bool": lambda: True,
    "Callable[..., Any]": lambda: lambda *a: a[0] if a else 1.0, "Callable[[Any], Any]": lambda: lambda a: a,
    "ParamsLike": parameters, "Optimizer": optimizer, "Layout": lambda: fc.Layout(fc.Placement(1), "B"),
    "Placement": lambda: fc.Placement(1), "SbpLike": lambda: "B", "Any": lambda: 1, "str": lambda: "sum",
}  # fmt: skip
"""A right value for what a parameter without a default declares."""
CALLS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "Compression": lambda: ("1bit",), "Precision": lambda: ("fp16",), "astype": lambda: (x(), "float64"),
    "bitwise_invert": lambda: (whole(4),), "invert": lambda: (whole(4),), "broadcast_to": lambda: (x(), (4, 4)),
    "can_cast": lambda: ("float32", "float64"), "cond": lambda: (True, lambda a: a, lambda a: a, x()),
    "contract": lambda: ("mk,kn->mn", x(), x()), "einsum": lambda: ("ij,jk", x(), x()),
    "explain_boxing": lambda: ((4,), "float32", *[fc.Layout(fc.Placement(1), "B")] * 2), "finfo": lambda: ("float32",),
    "iinfo": lambda: ("int8",), "from_dlpack": lambda: (X,), "full": lambda: ((2,), 1.0),
    "isdtype": lambda: ("float32", "real floating"), "logical_not": lambda: (flags(),), "meshgrid": lambda: (ramp(3),),
    "one_hot": lambda: (whole(3), 4), "pad": lambda: (x(), ((1, 1), (0, 0))), "permute_dims": lambda: (x(), (1, 0)),
    "reshape": lambda: (x(), (16,)), "scan": lambda: (lambda c, a: (c, a), ramp(4), x()),
    "searchsorted": lambda: (ramp(4), ramp(2)), "take": lambda: (x(), whole(2)), "vjp": lambda: (lambda a: a * a, x()),
    "take_along_axis": lambda: (x(), whole(4, 4)), "where": lambda: (flags(), x(), x()),
    "while_loop": lambda: (lambda c: c < 3, lambda c: c + 1, ramp(1)[0]), "written": lambda: (x(), 0, ramp(4)),
    "nn.Parameter": lambda: (x(),), "nn.Sequential": lambda: (fc.nn.Linear(4, 4),), "nn.GELU": lambda: ("tanh",),
    "nn.batch_norm": lambda: (x(), None, None), "nn.instance_norm": lambda: (ramp(2, 3, 4),),
    "nn.embedding": lambda: (whole(3), x()), "nn.interpolate": lambda: (ramp(1, 2, 4), (8,)),
    "nn.ctc_loss": lambda: (fc.nn.log_softmax(ramp(5, 2, 4)), whole(2, 2), 5 * whole(2), 2 * whole(2)),
    "nn.layer_norm": lambda: (x(), (4,)), "nn.rms_norm": lambda: (x(), (4,)), "nn.prelu": lambda: (x(), ramp(1)),
    "nn.nll_loss": lambda: (x(), whole(4)), "nn.cross_entropy": lambda: (x(), whole(4)),
    "optim.LambdaLR": lambda: (optimizer(), lambda n: 1.0), "optim.clip_grad_norm": lambda: (with_gradients(), 1.0),
    "random.bernoulli": lambda: (0.5, (3,)), "random.randint": lambda: (0, 5, (3,)),
    "random.set_state": lambda: (fc.random.get_state(),), "launch.run": lambda: (lambda: 1, 1),
    "data.DataLoader": lambda: (X, 2), "linalg.cholesky": lambda: (fc.eye(4),), "linalg.inv": lambda: (fc.eye(4),),
    "linalg.solve": lambda: (fc.eye(4), x()), "linalg.cross": lambda: (ramp(3), ramp(3)),
    **{f"bitwise_{name}": lambda: (whole(4), whole(4)) for name in ("and", "or", "xor", "left_shift", "right_shift")},
    **{f"{side}_shift": lambda: (whole(4), whole(4)) for side in ("left", "right")},
    **{f"logical_{name}": lambda: (flags(), flags()) for name in ("and", "or", "xor")},
    **{f"scatter_{name}": lambda: (x(), whole(4), x()) for name in ("add", "max", "min")},
    **{f"segment_{name}": lambda: (x(), whole(4), 4) for name in ("sum", "max", "min")},
    **{f"nn.conv{n}d": lambda n=n: (ramp(1, 2, *[5] * n), ramp(3, 2, *[3] * n)) for n in (1, 2, 3)},
    **{f"nn.conv_transpose{n}d": lambda n=n: (ramp(1, 3, *[5] * n), ramp(3, 2, *[3] * n)) for n in (1, 2, 3)},
}  # fmt: skip
"""Right arguments where those by declaration do not go together."""
OPTIONS: dict[str, dict[str, Any]] = {name: {"axis": 0} for name in ("cumulative_sum", "cumulative_prod")}
MADE = {
    "BoxingExplanation", "Plan", "Tensor", "gradient_graph", "optim.Optimizer", "optim.ParamGroup", "optim.Schedule",
    "testing.Report", "testing.check_op",
}  # fmt: skip
"""What users are given rather than make; its parts are not theirs to choose."""
NASTY: dict[str, Callable[[], Any]] = {
    "None": lambda: None, "text": lambda: "a", "-1": lambda: -1, "nan": lambda: float("nan"), "object": object,
    "[]": list, "an integer tensor": lambda: fc.asarray([1, 2]), "0-d": lambda: fc.asarray(1.0), "a bool": lambda: True,
    "a huge int": lambda: 10**30, "a number of numpy": lambda: np.float64(0.5), "complex": lambda: 1j,
    "masked": lambda: np.ma.array([1.0, 2.0], mask=[0, 1]), "a record": lambda: np.zeros(2, dtype=[("a", "i4")]),
    "an array of objects": lambda: np.array([None, 1], dtype=object), "a generator": lambda: (i for i in range(2)),
    "a set": lambda: {1, 2},
}  # fmt: skip
GIVEN_TO_USERS = {("while_loop", "init"), ("cond", "arguments"), ("launch.run", "args")}
"""What goes to a function of the user, whose errors are its own."""
SPACES = {
    "": fc, "nn.": fc.nn, "optim.": fc.optim, "random.": fc.random, "linalg.": fc.linalg, "fft.": fc.fft,
    "launch.": fc.launch, "data.": fc.data, "testing.": fc.testing,
}  # fmt: skip


def public() -> Iterator[tuple[str, Any]]:
    """All that a user can call, by name."""
    for prefix, module in SPACES.items():
        for name in getattr(module, "__all__", None) or dir(module):
            found = getattr(module, name)
            home = str(getattr(found, "__module__", ""))
            is_here = prefix not in ("random.", "data.") or home == module.__name__
            is_error = isinstance(found, type) and issubclass(found, BaseException)
            is_ours = callable(found) and home.startswith("flowcore") and not name.startswith("_")
            if is_ours and is_here and not is_error and prefix + name not in MADE:
                yield prefix + name, found


PUBLIC = dict(public())


def arguments_of(name: str, form: Signature) -> Any:
    """Right arguments for a call."""
    if name in CALLS:
        return form.bind(*CALLS[name](), **OPTIONS.get(name, {}))
    needed = {
        parameter.name: BY_DECLARATION[str(parameter.annotation)]()
        for parameter in form.parameters.values()
        if parameter.default is Parameter.empty and parameter.kind is not Parameter.VAR_KEYWORD
    }
    is_open = "arguments" in form.parameters and name.startswith("nn.")  # options of an activation
    needed = {} if is_open else {**needed, **OPTIONS.get(name, {})}
    bound = form.bind_partial()
    for parameter, value in needed.items():
        is_many = form.parameters[parameter].kind is Parameter.VAR_POSITIONAL
        bound.arguments[parameter] = (value,) if is_many else value
    return bound


def form_of(function: Any) -> Signature:
    """What a call takes; of a class what its constructor does, which older Pythons hide behind `__new__`."""
    if not isinstance(function, type) or "__init__" not in dir(function) or function.__init__ is object.__init__:
        return signature(function)
    form = signature(function.__init__)
    return form.replace(parameters=list(form.parameters.values())[1:])


def outcome(name: str, parameter: Parameter, value: Any) -> str:
    """What is wrong with what becomes of `value` in the place of `parameter`; empty: nothing."""
    function = PUBLIC[name]
    bound = arguments_of(name, form_of(function))
    bound.arguments[parameter.name] = (value,) if parameter.kind is Parameter.VAR_POSITIONAL else value
    try:
        with np.errstate(all="ignore"):
            function(*bound.args, **bound.kwargs)
    except fc.FlowcoreError as error:
        return "" if len(str(error)) > 10 else f"says nothing: {error!r}"
    except TypeError as error:
        return "" if "positional argument" in str(error) else f"{error!r}"
    except Exception as error:  # all of them are what is looked for
        return f"{error!r}"
    return ""


def test_every_public_callable_has_a_right_call() -> None:
    assert len(PUBLIC) > 380
    for name, function in PUBLIC.items():
        bound = arguments_of(name, form_of(function))
        function(*bound.args, **bound.kwargs)


def test_what_nobody_should_pass_is_a_typed_error_in_every_place() -> None:
    found = {}
    for name, function in PUBLIC.items():
        for parameter in form_of(function).parameters.values():
            if parameter.kind is Parameter.VAR_KEYWORD or (name, parameter.name) in GIVEN_TO_USERS:
                continue
            for kind, make in NASTY.items():
                wrong = outcome(name, parameter, make())
                if wrong:
                    found[f"{name}({parameter.name}: {kind})"] = wrong
    assert found == {}


@pytest.mark.parametrize("prefix", ["nn.", "optim.", "data.", "launch."])
def test_constructors_take_only_what_they_declare(prefix: str) -> None:
    for name, function in PUBLIC.items():
        is_made = isinstance(function, type) or prefix == "launch."
        if not name.startswith(prefix) or not is_made:
            continue
        form = form_of(function)
        rules = hints(function.__init__ if "__init__" in dir(function) and isinstance(function, type) else function)
        for parameter in form.parameters.values():
            for kind, make in NASTY.items():
                value = make()
                if parameter.name not in rules or fits(value, rules[parameter.name]):
                    continue
                bound = arguments_of(name, form)
                is_many = parameter.kind is Parameter.VAR_POSITIONAL
                bound.arguments[parameter.name] = (value,) if is_many else value
                with pytest.raises(fc.FlowcoreError, match=parameter.name):
                    function(*bound.args, **bound.kwargs)
                    pytest.fail(f"{name} took {parameter.name}={kind}")


WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no tensor": (lambda: fc.nn.Linear(4, 4)(None), fc.DTypeError, r"linear: x=None is of type NoneType: pass a tens"),
    "an axis size": (lambda: fc.Placement.grid(data="a"), fc.DTypeError, r"Placement\.grid: axes='a' .*: pass an int"),
    "a rate": (lambda: fc.optim.AdamW(parameters(), lr="a"), fc.DTypeError, r"AdamW: lr='a' .*: pass a learning rat"),
    "no rate": (lambda: fc.optim.AdamW(parameters(), lr=float("nan")), fc.ArgumentError, r"AdamW: lr=nan is out of ra"),
    "features": (lambda: fc.nn.Linear(-1, 3), fc.ShapeError, r"Linear: in_features=-1 is out of range: pass an int fr"),
    "a bool": (lambda: fc.nn.Linear(True, 3), fc.DTypeError, r"Linear: in_features=True is of type bool"),
    "a chance": (lambda: fc.nn.Dropout(1.5), fc.ArgumentError, r"Dropout: p=1\.5 is out of range: .* from 0 to 1"),
    "an option by name": (lambda: fc.sum(X, keepdims="no"), fc.DTypeError, r"sum: keepdims='no' .*: pass True or Fal"),
    "a method": (lambda: x().sum(axis="a"), fc.DTypeError, r"axis='a' is of type str"),
    "an activation": (lambda: fc.nn.CELU("a"), fc.DTypeError, r"CELU: alpha='a' is of type str"),
    "a subclass": (lambda: fc.nn.Conv2d(3, 3, None), fc.DTypeError, r"^Conv2d: kernel_size=None"),
    "a mask": (lambda: fc.asarray(NASTY["masked"]()), fc.DTypeError, r"mask.*\.filled\(value\)"),
    "a mask in an operator": (lambda: fc.ones(2) + NASTY["masked"](), fc.DTypeError, r"\.filled\(value\)"),
    "a mask in a step": (lambda: fc.compile(lambda a: a + 1)(NASTY["masked"]()), fc.DTypeError, r"\.filled\(value\)"),
    "a mask of parts": (
        lambda: fc.from_local(NASTY["masked"](), fc.Placement(1), "B"), fc.DTypeError, r"\.filled\(value\)",
    ),
    "a mask of rows": (
        lambda: list(fc.data.DataLoader(NASTY["masked"](), 1)), fc.DTypeError, r"\.filled\(value\)",
    ),
    "no function": (lambda: fc.grad(None), fc.DTypeError, r"grad: f=None is of type NoneType: pass a function"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_an_error_names_the_value_the_rule_and_the_remedy(case: str) -> None:
    call, kind, text = WRONG[case]
    with pytest.raises(kind, match=text):
        call()


def test_errors_of_users_functions_stay_as_they_are_and_wrong_numbers_of_arguments_are_pythons() -> None:
    def wrong(a: Any) -> Any:
        raise KeyError("mine")

    for transform in (fc.grad, fc.vmap, fc.compile, fc.checkpoint):
        with pytest.raises(KeyError, match="mine"):
            transform(wrong)(x())
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        fc.nn.Linear(4)


def test_numbers_of_numpy_are_numbers_one_by_one_and_in_an_array() -> None:
    for size in (np.array([3, 2]), np.array([3, 2], np.int8), [np.int64(3), np.int8(2)], (3, 2)):
        assert fc.nn.Conv2d(3, 8, size).weight.shape == (8, 3, 3, 2)
    with pytest.raises(fc.ShapeError, match=r"kernel_size=.* is out of range: .* an int from 1"):
        fc.nn.Conv2d(3, 8, np.array([3, 0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in (np.float16, np.float32, np.float64):
            fc.optim.SGD(parameters(), lr=kind(0.5))
            with pytest.raises(fc.ArgumentError, match="lr=inf"):
                fc.optim.SGD(parameters(), lr=float(kind(np.inf)))


def test_a_mask_that_masks_nothing_is_an_array() -> None:
    np.testing.assert_array_equal(fc.asarray(np.ma.array([1.0, 2.0], mask=[0, 0])).numpy(), [1.0, 2.0])


def test_public_names_are_the_very_functions_of_their_modules() -> None:
    from flowcore.nn import activations
    from flowcore.ops import reduce

    assert fc.sum is reduce.sum and fc.nn.gelu is activations.gelu
    assert str(signature(fc.sum)).startswith("(x: 'TensorLike', /")
