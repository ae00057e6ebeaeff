"""Compressed gradients: exact bytes, the plan's reasons, convergence, and nothing compressed without leave."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.boxing_op import Terms
from flowcore.dispatch import apply
from flowcore.errors import DTypeError, FlowcoreError, PlacementError
from tests.narrow_bytes import TABLE, step_of, theory

STEPS, INPUTS, HIDDEN, CLASSES = 40, 20, 64, 5
FOUND = tuple[list[float], fc.Plan]


def trained(
    compress: Any, data: int, model: int = 1, zero: int = 0, precision: str | None = None, steps: int = STEPS
) -> FOUND:
    """(losses, plan) of a small classifier."""
    mesh = fc.Placement.grid(data=data, model=model)
    fc.manual_seed(0)
    up, down = fc.nn.Linear(INPUTS, HIDDEN, bias=False), fc.nn.Linear(HIDDEN, CLASSES, bias=False)
    own = {"data": fc.S(0)} if zero == 3 else {}
    up.place(mesh, {"weight": {**own, "model": fc.S(0)}})
    down.place(mesh, {"weight": {**own, "model": fc.S(1)}})
    opt = fc.optim.AdamW([*up.parameters(), *down.parameters()], lr=1e-2)

    compress = fc.Compression("1bit", axis="data") if compress == "1bit" and model > 1 else compress

    @fc.compile(compress=compress, precision=precision)
    def step(x: Any, y: Any) -> Any:
        loss = fc.nn.cross_entropy(down(fc.nn.relu(up(x))), y)
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    draw = np.random.default_rng(0)
    images = draw.normal(size=(120, INPUTS)).astype("float32")
    labels = (images @ draw.normal(size=(INPUTS, CLASSES))).argmax(axis=1)
    x, y = (fc.asarray(part, placement=mesh, sbp={"data": fc.S(0)}) for part in (images, labels))
    return [step(x, y).item() for _ in range(steps)], step.plan(x, y)


def gradients_moved(plan: fc.Plan, reason: str) -> int:
    """Bytes of the transfers with this reason."""
    return sum(transfer.bytes for transfer in plan.transfers if transfer.reason.startswith(reason))


@pytest.mark.parametrize("compress", ["bf16", "1bit"])
@pytest.mark.parametrize(
    "options",
    [{"data": 2}, {"data": 3}, {"data": 2, "zero": 3}, {"data": 2, "model": 2}, {"data": 2, "precision": "fp16"}],
    ids=str,
)  # fmt: skip
def test_compressed_gradients_train_as_whole_ones_do(compress: str, options: dict[str, Any]) -> None:
    ranks = options["data"] * options.get("model", 1)
    found = fc.launch.run(partial(trained, compress, **options), ranks=ranks)
    whole, _ = trained(None, 1)
    for losses, _ in found:
        assert losses == found[0][0]
        np.testing.assert_allclose(losses[0], whole[0], rtol=1e-3)
        assert losses[-1] < 0.1 * losses[0] and losses[-1] < 4 * whole[-1]


@pytest.mark.parametrize("ranks", [2, 3])
def test_signs_and_means_are_all_that_crosses_ranks(ranks: int) -> None:
    plan = fc.launch.run(partial(trained, "1bit", ranks, steps=1), ranks=ranks)[0][1]
    rows = {HIDDEN: INPUTS, CLASSES: HIDDEN}
    packed = sum(height * -(-width // 8) for height, width in rows.items())
    means = sum(height * 2 * 4 for height in rows)
    assert gradients_moved(plan, "compress='1bit'") == ranks * (ranks - 1) * (packed + means)
    assert plan.bytes_moved <= gradients_moved(plan, "compress='1bit'") + 8 * ranks  # the loss
    assert "all_gather: %" in plan.explain() and "uint8[" in plan.explain()


def test_bfloat16_halves_what_gradients_move() -> None:
    whole, half = (fc.launch.run(partial(trained, c, 2, steps=1), ranks=2)[0][1] for c in (None, "bf16"))
    full = 2 * 4 * HIDDEN * (INPUTS + CLASSES)
    assert gradients_moved(half, "compress='bf16'") == full // 2
    assert whole.bytes_moved - half.bytes_moved == full // 2
    assert gradients_moved(whole, "compress") == 0 and {str(t.dtype) for t in whole.transfers} == {"float32"}


@pytest.mark.parametrize("ranks", [2, 3])
def test_every_strategy_moves_the_bytes_of_theory_in_every_precision(ranks: int) -> None:
    for found in fc.launch.run(lambda: [step_of(*row).plan().bytes_moved for row in TABLE], ranks=ranks):
        assert dict(zip(TABLE, found, strict=True)) == {row: theory(*row, ranks) for row in TABLE}


def test_what_a_rank_could_not_send_is_sent_later() -> None:
    def total() -> tuple[Any, Any]:
        mesh = fc.Placement(2)
        weight = fc.asarray(np.zeros((3, 10), "float32"), placement=mesh, sbp="B").requires_grad_()
        terms = np.random.default_rng(0).normal(size=(2, 3, 10)).astype("float32")
        x = fc.asarray(terms, placement=mesh, sbp=fc.S(0))

        @fc.compile(compress="1bit")
        def step(x: Any) -> Any:
            weight.grad = None
            (weight * x).sum().backward()
            return weight.grad

        sent = [step(x).numpy() for _ in range(200)]
        return np.mean(sent, axis=0), terms.sum(axis=0)

    for mean, exact in fc.launch.run(total, ranks=2):
        np.testing.assert_allclose(mean, exact, atol=0.05)


def test_the_terms_of_a_value_sum_to_it_on_every_layout() -> None:
    def summed() -> list[Any]:
        mesh, value = fc.Placement(3), np.arange(12.0).reshape(3, 4)
        layouts = (fc.B, fc.S(0), fc.S(1), fc.P)
        return [apply(Terms(3), fc.asarray(value, placement=mesh, sbp=sbp)).sum(axis=0).numpy() for sbp in layouts]

    for found in fc.launch.run(summed, ranks=3):
        for value in found:
            np.testing.assert_allclose(value, np.arange(12.0).reshape(3, 4))


def test_a_compression_that_is_none_is_an_error() -> None:
    with pytest.raises(FlowcoreError, match="use one of 'bf16', '1bit'"):
        fc.compile(lambda x: x, compress="2bit")
    for axis in (0, [], None, b"data", fc.S(0)):
        with pytest.raises(DTypeError, match=r"axis=.* is of type .*: pass text"):
            fc.Compression("1bit", axis=axis)  # type: ignore[arg-type]  # that is what is refused
    for warmup in ("x", None, 1.0, True, [], np.nan):
        with pytest.raises(DTypeError, match=r"warmup=.* is of type .*: pass an int"):
            fc.Compression("1bit", warmup=warmup)  # type: ignore[arg-type]  # as above
    with pytest.raises(FlowcoreError, match="warmup=-1: take 0 or more"):
        fc.Compression("1bit", warmup=-1)


def test_an_axis_that_the_mesh_of_a_parameter_lacks_is_an_error() -> None:
    with pytest.raises(PlacementError, match="unknown mesh axis 'rows'"):
        trained(fc.Compression("1bit", axis="rows"), 1, steps=1)


@pytest.mark.parametrize("compress", ["bf16", "1bit"])
def test_the_first_steps_go_as_they_are_where_asked(compress: str) -> None:
    def story() -> tuple[list[float], fc.Plan, fc.Plan]:
        given = fc.Compression(compress, warmup=3)
        return *trained(given, 2, steps=2), trained(given, 2, steps=3)[1]

    whole, plain = fc.launch.run(partial(trained, None, 2, steps=2), ranks=2)[0]
    _, after = fc.launch.run(partial(trained, compress, 2, steps=1), ranks=2)[0]
    for losses, before, then in fc.launch.run(story, ranks=2):
        assert losses == whole
        assert before.bytes_moved == plain.bytes_moved and gradients_moved(before, "compress") == 0
        assert then.bytes_moved == after.bytes_moved and gradients_moved(then, "compress") > 0


def test_states_lie_after_the_first_steps_as_without_them() -> None:
    """A plan without compression divides the states of a large parameter; with it that would gather the parameter."""

    def moved(warmup: int) -> list[int]:
        layer = fc.nn.Linear(512, 512, bias=False)
        opt = fc.optim.AdamW(layer.parameters())

        @fc.compile(compress=fc.Compression("1bit", warmup=warmup))
        def step(x: Any) -> None:
            fc.sum(layer(x) ** 2).backward()
            opt.step()
            opt.zero_grad()

        x = fc.ones((8, 512), sbp=fc.S(0))
        found = [step.plan(x).bytes_moved]
        step(x)
        return [*found, step.plan(x).bytes_moved]

    for (whole, after), (first, then) in fc.launch.run(lambda: (moved(1), moved(0)), ranks=2):
        assert whole == 2 * 4 * 512 * 512
        assert after == first == then == 2 * 512 * (512 // 8 + 2 * 4)
