"""Every combination of precision, loss scaling and compression means something, or is a typed error at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.errors import DTypeError, FlowcoreError, GradError, PlacementError, PlanError

PRECISIONS: dict[str, Any] = {
    "none": None, "bf16": "bf16", "fp16": "fp16",
    "scaled": fc.Precision("fp16", scale=64.0, growth=4.0, backoff=0.25, interval=1),
}  # fmt: skip
COMPRESSIONS: dict[str, Any] = {
    "none": None, "bf16": "bf16", "1bit": "1bit",
    "bf16 later": fc.Compression("bf16", warmup=1), "1bit later": fc.Compression("1bit", axis="data", warmup=1),
}  # fmt: skip
OPTIONS: dict[str, tuple[Any, ...]] = {"scale": (2.0**16, 64.0), "growth": (2.0, 4.0), "backoff": (0.5, 0.25),
                                       "interval": (2000, 7)}  # fmt: skip
FOUND = tuple[list[fc.Plan], list[float], list[float]]


def layer_and_step(**options: Any) -> tuple[fc.nn.Module, Any]:
    """A layer that all ranks hold, and a compiled step that trains it; no ranks need to agree on what that returns."""
    mesh = fc.Placement.grid(data=fc.world_size())
    fc.manual_seed(0)
    layer = fc.nn.Linear(16, 8, bias=False)
    layer.place(mesh, {"*": {}})
    opt = fc.optim.SGD(layer.parameters(), lr=0.1)
    draw = np.random.default_rng(0).normal(size=(6, 16)).astype("float32")
    x = fc.asarray(draw, placement=mesh, sbp={"data": fc.S(0)})

    @fc.compile(**options)
    def step() -> None:
        (layer(x) ** 2).mean().backward()
        opt.step()
        opt.zero_grad()

    return layer, step


def ran(**options: Any) -> FOUND:
    """(the plans of the first and the second step, the scales before and after, the weight after both)."""
    layer, step = layer_and_step(**options)
    plans, scales = [], [step.loss_scale]
    for _ in range(2):
        plans.append(step.plan())
        step()
        scales.append(step.loss_scale)
    return plans, scales, layer.weight.numpy().ravel().tolist()


def compressed(plan: fc.Plan) -> bool:
    """Whether gradients cross ranks in fewer bits because the user said so."""
    return any(transfer.reason.startswith("compress=") for transfer in plan.transfers)


def test_every_combination_does_what_each_of_its_options_says() -> None:
    """Products narrow if and only if asked, gradients compressed from the step on that was asked, the scale as told."""

    def every() -> dict[tuple[str, str], FOUND]:
        return {
            (p, c): ran(precision=PRECISIONS[p], compress=COMPRESSIONS[c]) for p, c in product(PRECISIONS, COMPRESSIONS)
        }

    first, second = fc.launch.run(every, ranks=2)
    narrow = {"none": "float32", "bf16": "bfloat16", "fp16": "float16", "scaled": "float16"}
    scales = {"none": [1.0] * 3, "bf16": [1.0] * 3, "fp16": [2.0**16] * 3, "scaled": [64.0, 256.0, 1024.0]}
    for (p, c), (plans, found, weight) in first.items():
        for plan, number in zip(plans, (0, 1), strict=True):
            (product_of, *_) = [node for node in plan.graph.nodes if node.op.name == "contract"]
            assert {str(type.dtype) for type in plan.graph.types(product_of.inputs)} == {narrow[p]}, (p, c)
            assert compressed(plan) == (c != "none" and number >= ("later" in c)), (p, c, number)
        assert found == scales[p], (p, c)
        assert weight == second[p, c][2]
        np.testing.assert_allclose(weight, first["none", "none"][2], atol=0.03 if "1bit" in c else 2e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_strict_plans_and_limits_hold_with_every_combination(precision: str, compress: str) -> None:
    options = {"precision": PRECISIONS[precision], "compress": COMPRESSIONS[compress]}

    def check() -> None:
        is_asked = compress in ("bf16", "1bit")  # then the one transfer, of the gradient, is no implicit one
        with nullcontext() if is_asked else pytest.raises(PlanError, match="allows no implicit transfer"):
            layer_and_step(plan="strict", **options)[1].plan()
        with pytest.raises(fc.MemoryLimitError):
            layer_and_step(memory_limit=64, **options)[1].plan()

    fc.launch.run(check, ranks=2)


@pytest.mark.parametrize("values", [*product(*OPTIONS.values())], ids=str)
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_options_of_the_scale_are_for_fp16(dtype: str, values: tuple[Any, ...]) -> None:
    given = dict(zip(OPTIONS, values, strict=True))
    moot = [name for name, value in given.items() if value != OPTIONS[name][0]]
    if dtype == "fp16" or not moot:
        assert fc.Precision(dtype, **given) == fc.Precision(dtype, **{name: given[name] for name in moot})
        return
    with pytest.raises(FlowcoreError, match=r"only 'fp16' scales the loss.* leave ") as found:
        fc.Precision(dtype, **given)
    assert all(f"{name}={given[name]}" in str(found.value) for name in moot)


@pytest.mark.parametrize(("kind", "axis", "warmup"), [*product(("bf16", "1bit"), ("", "data"), (0, 3))])
def test_an_axis_is_for_one_bit(kind: str, axis: str, warmup: int) -> None:
    if kind == "1bit" or not axis:
        assert fc.Compression(kind, axis, warmup).warmup == warmup
        return
    with pytest.raises(FlowcoreError, match=r"with axis='data': .* leave axis out, or use '1bit'"):
        fc.Compression(kind, axis, warmup)


def parameter(dtype: str, axes: tuple[str, ...] = ("data",), shape: tuple[int, ...] = (2,)) -> fc.Tensor:
    """A square matrix that all ranks hold."""
    mesh = fc.Placement(np.arange(int(np.prod(shape))).reshape(shape), axes)
    return fc.asarray(np.ones((4, 4), dtype), placement=mesh, sbp="B").requires_grad_()


def called(options: dict[str, Any], **of_parameter: Any) -> None:
    """A step of `backward` alone with these options."""
    w = parameter(**{"dtype": "float32", **of_parameter})
    x = fc.asarray(np.ones((4, 4), w.dtype), placement=w.placement, sbp="B")
    fc.compile(lambda: fc.real((x @ w).sum()).backward(), **options)()


def differentiated(options: dict[str, Any]) -> None:
    """A step that takes its gradient by fc.grad."""
    w = parameter("float32")
    fc.compile(fc.grad(lambda w: (w @ w).sum()), **options)(w)


def within(inner: dict[str, Any], outer: dict[str, Any]) -> None:
    """A compiled function that calls another one."""
    part = fc.compile(lambda x: x @ x, **inner)
    fc.compile(lambda x: part(x), **outer)(parameter("float32"))


def batched(options: dict[str, Any]) -> None:
    """A compiled function in fc.vmap, which traces it."""
    fc.vmap(fc.compile(lambda x: x @ x, **options))(parameter("float32").reshape((1, 4, 4)))


def stepped(by: Callable[..., Any], **options: Any) -> list[float]:
    """Steps of an optimizer with these options, and how many it has counted: none, where they mean nothing."""
    w = parameter("float32")
    opt = fc.optim.AdamW([w], **options)

    def step() -> None:
        (w * w).sum().backward()
        opt.step()

    with pytest.raises(PlacementError) as found:
        by(step)()
    assert opt.param_groups[0].counts.numpy().tolist() == [0.0]
    raise found.value


ONE_BIT, NOPE = {"compress": "1bit"}, {"compress": fc.Compression("1bit", axis="nope", warmup=9)}
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "bf16 of float64": (lambda: called({"precision": "bf16"}, dtype="float64"), DTypeError, "all read float64.*make"),
    "fp16 of bfloat16": (lambda: called({"precision": "fp16"}, dtype=fc.bfloat16), DTypeError, "all read bfloat16"),
    "bf16 of complex": (lambda: called({"precision": "bf16"}, dtype="complex64"), DTypeError, "all read complex64"),
    "1bit of complex": (lambda: called(ONE_BIT, dtype="complex64"), DTypeError, "only real numbers.*compress out"),
    "an axis that is not": (lambda: called(NOPE), PlacementError, "unknown mesh axis 'nope'.*axis='data'"),
    "one of two axes": (
        lambda: called(ONE_BIT, axes=("rows", "columns"), shape=(1, 2)), PlacementError, "axis='rows' or 'columns'",
    ),
    "compress without backward": (lambda: differentiated(ONE_BIT), GradError, "gradients of backward.*leave compress"),
    "inner precision": (lambda: within({"precision": "bf16"}, {}), PlanError, "precision=.*outermost.*precision=None"),
    "inner compress": (lambda: within(ONE_BIT, {"compress": "bf16"}), PlanError, "compress=.*give compress to that"),
    "inner plan": (lambda: within({"plan": "strict"}, {}), PlanError, "plan='strict' of .*outermost"),
    "inner limit": (lambda: within({"memory_limit": 9}, {}), PlanError, "memory_limit=9 of .*outermost"),
    "traced by vmap": (lambda: batched({"precision": "bf16"}), PlanError, "precision=.*another function is traced"),
    "states along no axis": (
        lambda: stepped(fc.compile, shard_states="nope"), PlacementError, "AdamW with shard_states='nope'.*'data'",
    ),
    "states along no axis, eagerly": (
        lambda: stepped(lambda f: f, shard_states="nope"), PlacementError, r"parameter of shape \(4, 4\).*name one",
    ),
    "states laid along no axis": (
        lambda: stepped(fc.compile, state_sbp={"nope": fc.S(0)}), PlacementError, "unknown mesh axis 'nope'.*name one",
    ),
    "an axis that is no text": (
        lambda: fc.optim.AdamW([parameter("float32")], shard_states=0), DTypeError, "shard_states=0 is of type int",  # type: ignore[arg-type]  # that is what is refused
    ),
    "no layout": (lambda: fc.optim.AdamW([parameter("float32")], state_sbp="Q9"), PlacementError, "Q9"),
    "no layout of an axis": (
        lambda: fc.optim.AdamW([parameter("float32")], state_sbp={"data": 3}), DTypeError, "state_sbp=.* type dict",  # type: ignore[dict-item]  # as above
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_do_nothing_is_refused_on_every_rank_alike(name: str) -> None:
    call, error, said = REFUSED[name]

    def check() -> str:
        with pytest.raises(error, match=said) as found:
            call()
        assert isinstance(found.value, FlowcoreError)
        return str(found.value)

    assert len(set(fc.launch.run(check, ranks=2))) == 1


def test_equal_options_may_be_given_to_a_part() -> None:
    for options in ({"precision": "bf16"}, {"precision": fc.Precision("bf16")}, {}):
        fc.launch.run(lambda options=options: within(options, {"precision": "bf16"}), ranks=2)


def test_a_trace_that_failed_leaves_nothing_to_the_next() -> None:
    layer, fails = fc.nn.Linear(4, 3), [True]

    @fc.compile(precision="fp16")
    def step(x: fc.Tensor) -> None:
        fc.mean(layer(x)).backward()
        if fails[0]:
            raise KeyError

    with pytest.raises(KeyError):
        step(fc.ones((2, 4)))
    fails[0] = False
    step(fc.ones((2, 4)))
    expected = 2 * np.float32(np.float16(1 / 6))  # of two rows that are all ones
    np.testing.assert_array_equal(layer.weight.grad.numpy(), np.full((3, 4), expected))
