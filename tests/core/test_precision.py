"""Mixed precision: which operators compute narrow, what moves, equal numbers on every placement, loss scaling."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.boxing_op import Boxing
from flowcore.dtypes import as_dtype
from flowcore.errors import DTypeError, FlowcoreError
from flowcore.op import OPS
from flowcore.passes.precision import precision_of
from flowcore.simulate import samples
from flowcore.world import current

NARROW = ("attention", "contract", "convolve")
SAME = {"broadcast_to", "concatenate", "permute", "reshape", "slice", "take", "to_global"}
FULL = {"add", "exp", "log", "max", "multiply", "solve", "sqrt", "sum", "tanh", "where"}
STRATEGIES = {
    "data": {"data": 2}, "ZeRO-1": {"data": 2, "zero": 1}, "ZeRO-3": {"data": 3, "zero": 3},
    "hybrid": {"data": 2, "model": 2},
}  # fmt: skip
TOLERANCE = {"bf16": 2e-3, "fp16": 3e-4}


class MLP(fc.nn.Module):
    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.up, self.down = fc.nn.Linear(24, 48, bias=bias), fc.nn.Linear(48, 5, bias=bias)

    def forward(self, x: Any) -> Any:
        return self.down(fc.nn.relu(self.up(x)))


def trained(
    precision: Any, data: int = 1, model: int = 1, zero: int = 0, bias: bool = True, steps: int = 8
) -> tuple[list[float], fc.Plan, Any, MLP]:
    """(losses, plan, the step, the model) of a few steps."""
    mesh = fc.Placement.grid(data=data, model=model)
    fc.manual_seed(0)
    net = MLP(bias)
    own = {"data": fc.S(0)} if zero == 3 else {}
    net.place(mesh, {"*": own, "up.weight": {**own, "model": fc.S(0)}, "down.weight": {**own, "model": fc.S(1)}})
    opt = fc.optim.AdamW(net.parameters(), lr=1e-2, shard_states="data" if zero == 1 else None)

    @fc.compile(precision=precision)
    def step(x: Any, y: Any) -> Any:
        loss = fc.nn.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    draw = np.random.default_rng(0)
    images = draw.normal(size=(60, 24)).astype("float32")
    labels = (images @ draw.normal(size=(24, 5))).argmax(axis=1)
    x, y = (fc.asarray(part, placement=mesh, sbp={"data": fc.S(0)}) for part in (images, labels))
    return [step(x, y).item() for _ in range(steps)], step.plan(x, y), step, net


def losses_of(precision: str, options: dict[str, int]) -> list[float]:
    """The losses of a strategy."""
    return trained(precision, **options)[0]


def test_operators_say_where_they_compute() -> None:
    found = {sample.op.name: precision_of(sample.op, sample.types) for sample in samples(OPS, (Boxing,))}
    found["to_global"] = OPS["to_global"].precision
    assert {name for name, where in found.items() if where == "narrow"} == {n for n in found if n.startswith(NARROW)}
    assert {found[name] for name in SAME} == {"same"} and {found[name] for name in FULL} == {"full"}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_every_strategy_trains_as_one_rank_does(precision: str) -> None:
    whole, _, _, net = trained(precision)
    full, *_ = trained(None)
    assert {parameter.dtype for parameter in net.parameters()} == {np.dtype("float32")}
    np.testing.assert_allclose(whole, full, atol=TOLERANCE[precision])
    assert whole != full
    for options in STRATEGIES.values():
        ranks = options["data"] * options.get("model", 1)
        for found in fc.launch.run(partial(losses_of, precision, options), ranks=ranks):
            np.testing.assert_allclose(found, whole, atol=TOLERANCE[precision])


@pytest.mark.parametrize("zero", [0, 3])
def test_gradients_and_gathered_parameters_move_in_half_the_bytes(zero: int) -> None:
    def moved(precision: str | None) -> tuple[int, set[str]]:
        plan = trained(precision, data=2, zero=zero, bias=False, steps=1)[1]
        return plan.bytes_moved, {str(transfer.dtype) for transfer in plan.transfers if len(transfer.shape) == 2}

    (full, wide), (half, narrow) = fc.launch.run(lambda: (moved(None), moved("bf16")), ranks=2)[0]
    assert (wide, narrow) == ({"float32"}, {"bfloat16"}) and 2 * half == full


@pytest.mark.parametrize("precision", [None, "bf16"])
def test_each_rank_of_a_host_updates_its_part_of_what_all_hold(precision: str | None) -> None:
    def transfers() -> list[tuple[str, str]]:
        layer = fc.nn.Linear(512, 512, bias=False)
        opt = fc.optim.AdamW(layer.parameters(), lr=1e-2)

        @fc.compile(precision=precision)
        def step(x: Any) -> Any:
            loss = fc.sum(layer(x) ** 2)
            loss.backward()
            opt.step()
            opt.zero_grad()
            return loss

        plan = step.plan(fc.ones((8, 512), sbp=fc.S(0)))
        return [(each.kind, str(each.dtype)) for each in plan.transfers if len(each.shape) == 2]

    gradient = "float32" if precision is None else "bfloat16"
    expected = [("reduce_scatter", gradient), ("all_gather", "float32")]
    assert fc.launch.run(transfers, ranks=2)[0] == expected


def test_a_parameter_is_cast_once_and_results_keep_their_dtype() -> None:
    losses, plan, step, _ = trained("bf16", steps=1)
    graph = plan.graph
    weights = [number for number in graph.inputs if len(graph.values[number].type.shape) == 2]
    casts = [node for node in graph.nodes if node.op.name == "cast" and node.inputs[0] in weights]
    assert len({node.inputs for node in casts}) == len(casts) == 3  # both weights and the images
    assert {str(graph.values[number].type.dtype) for number in graph.outputs} == {"float32", "float64"}
    assert len(losses) == 1 and step.loss_scale == 1.0


def test_bodies_of_loops_and_branches_compute_narrow_too() -> None:
    def f(x: Any, w: Any) -> Any:
        looped, _ = fc.scan(lambda carry, _: (fc.tanh(carry @ w), carry), x, None, length=2)
        return fc.cond(looped.sum() > 0, lambda: looped @ w, lambda: looped @ w.mT)

    x, w = (fc.asarray(np.random.default_rng(s).normal(size=(8, 8)).astype("float32")) for s in (0, 1))
    found, expected = fc.compile(f, precision="bf16")(x, w), f(x, w)
    assert found.dtype == expected.dtype
    difference = np.abs(found.numpy() - expected.numpy()).max()
    assert 0 < difference < 0.15


def test_a_step_whose_gradients_overflow_changes_nothing_but_the_scale() -> None:
    def story() -> tuple[list[float], list[bool]]:
        precision = fc.Precision("fp16", scale=2.0**40, backoff=2.0**-12, interval=2)
        mesh = fc.Placement.grid(data=2)
        fc.manual_seed(0)
        net = MLP(True)
        net.place(mesh, {"*": {}})
        opt = fc.optim.AdamW(net.parameters())

        @fc.compile(precision=precision)
        def step(x: Any) -> Any:
            loss = (net(x) ** 2).mean()
            loss.backward()
            opt.step()
            opt.zero_grad()
            return loss

        x = fc.asarray(np.random.default_rng(0).normal(size=(6, 24)), "float32", placement=mesh, sbp={"data": fc.S(0)})
        scales, changed = [step.loss_scale], []
        for _ in range(6):
            before = [parameter.numpy() for parameter in net.parameters()]
            step(x)
            changed.append(any((p.numpy() != old).any() for p, old in zip(net.parameters(), before, strict=True)))
            scales.append(step.loss_scale)
        return scales, changed

    for scales, changed in fc.launch.run(story, ranks=2):
        assert scales == [2.0**40, 2.0**28, 2.0**16, 2.0**16, 2.0**17, 2.0**17, 2.0**18]
        assert changed == [False, False, True, True, True, True]


@pytest.mark.parametrize(("factor", "scale", "last"), [(0.0, 2.0**63, 2.0**64), (np.nan, 2.0**-63, 2.0**-64)])
def test_the_scale_stays_within_its_bounds(factor: float, scale: float, last: float) -> None:
    layer = fc.nn.Linear(4, 3)

    @fc.compile(precision=fc.Precision("fp16", scale=scale, growth=4.0, backoff=0.25, interval=1))
    def step(x: Any) -> None:
        fc.sum(layer(x) * factor).backward()

    for _ in range(3):
        step(fc.ones((2, 4)))
    assert step.loss_scale == last


def test_a_precision_that_is_none_is_an_error() -> None:
    with pytest.raises(DTypeError, match="use 'bf16' or 'fp16'"):
        fc.compile(lambda x: x, precision="float32")
    with pytest.raises(DTypeError, match="use 'bf16' or 'fp16'"):
        fc.compile(lambda x: x, precision="half")
    assert fc.Precision("bf16").narrow == as_dtype("bfloat16")


NUMBERS = ("scale", "growth", "backoff")
WRONG: list[tuple[str, Any, type[Exception], str]] = [
    *((name, value, DTypeError, f"{name}=.* is of type .*: pass a number") for name in NUMBERS
      for value in ("x", None, 1j, [2.0], fc.float16)),
    *((name, value, DTypeError, f"{name}=.*give a finite number") for name in NUMBERS
      for value in (True, np.nan, np.inf)),
    *(("interval", value, DTypeError, "interval=.* is of type .*: pass an int")
      for value in ("x", None, True, 2.0, np.nan, [1])),
    *(("interval", value, FlowcoreError, "take 1 to 16777216 steps") for value in (0, -1, 2**24 + 1)),
    *(("scale", value, FlowcoreError, "from 2.0") for value in (0.0, -1.0, 2.0**65, 2.0**-65)),
    *(("backoff", value, FlowcoreError, "0 < backoff < 1 <= growth") for value in (0.0, 1.0, -0.5)),
    *(("growth", value, FlowcoreError, "0 < backoff < 1 <= growth") for value in (0.5, 0.0, -2.0)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "error", "said"), WRONG)
def test_an_option_of_a_precision_that_means_nothing_is_an_error(
    name: str, value: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as found:
        fc.Precision("fp16", **{name: value})
    assert isinstance(found.value, FlowcoreError)


def test_numbers_of_numpy_are_options_of_a_precision() -> None:
    given = fc.Precision("fp16", scale=np.float32(8), growth=2, backoff=np.float64(0.25), interval=np.int64(3))
    assert given == fc.Precision("fp16", scale=8.0, growth=2.0, backoff=0.25, interval=3)


@pytest.mark.parametrize("given", [1, True, False, [], b"bf16", np.float16], ids=repr)
def test_what_is_no_text_is_refused_at_once_too(given: Any) -> None:
    with pytest.raises(DTypeError, match="use 'bf16' or 'fp16'"):
        fc.compile(lambda x: x, precision=given)
    with pytest.raises(FlowcoreError, match="use one of 'bf16', '1bit'"):
        fc.compile(lambda x: x, compress=given)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_gradient_of_a_weight_is_made_in_its_order_not_transposed_after(precision: str) -> None:
    layer = fc.nn.Linear(8, 4)
    opt = fc.optim.SGD(layer.parameters(), lr=0.1)

    def step(x: fc.Tensor) -> fc.Tensor:
        loss = fc.sum(layer(x) ** 2)
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    compiled = fc.compile(step, precision=precision)
    compiled(fc.ones((5, 8)))
    (variant,) = compiled.variants(current())
    names = [node.op.name for node in variant.program.local.nodes]
    assert "contract" in names and not {"permute", "packed"} & set(names), names
