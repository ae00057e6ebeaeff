"""A step whose gradients overflow in float16 on the last rank alone, for worlds of threads and of processes."""

from __future__ import annotations

from typing import Any

import numpy as np

import flowcore as fc

ROWS, WIDTH, UNITS = 12, 10, 8
STRATEGIES: dict[str, tuple[str, dict[str, Any]]] = {
    "replicas": ("B", {}),
    "ZeRO-1": ("B", {"shard_states": "data"}),
    "ZeRO-2": ("B", {"state_sbp": "S0"}),
    "ZeRO-3": ("S0", {}),
}
"""How parameters lie, and what the optimizer is told. A compiled step keeps no gradient, so that ZeRO-2 is ZeRO-1."""
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {}, "clipped": {"clip": 0.05}, "accumulated": {"parts": 2},
    "bf16": {"compress": "bf16"}, "1bit": {"compress": "1bit"},
}  # fmt: skip
INF = (False, True, False, False)
"""In which steps a gradient overflows."""
SCALES = [1024.0, 1024.0, 512.0, 512.0, 1024.0]
"""The scales then, where two steps in a row without that double it."""


class Told:
    """What a rank holds, step by step: the bytes of its blocks of parameters and states, and its counts."""

    def __init__(self, layers: list[fc.nn.Module], opt: Any) -> None:
        self.tensors = [parameter for layer in layers for parameter in layer.parameters()]
        self.opt = opt

    def bits(self) -> list[bytes]:
        """All that a step may change."""
        held = [state for entries in self.opt.state.values() for state in entries.values()]
        every = [*self.tensors, *held, self.opt.param_groups[0].counts, self.opt.param_groups[0].rate]
        return [tensor.to_local().tobytes() for tensor in every]


def story(strategy: str, variant: str, steps: tuple[bool, ...] = INF) -> tuple[list[float], list[bool], list[Any]]:
    """(the scales, whether each step changed anything on this rank, the parameters at last and the count of steps).

    Of the two layers one has gradients that overflow, in the row of the last unit, in the terms of the last rank.
    """
    sbp, told = STRATEGIES[strategy]
    options = {"clip": 0.0, "parts": 1, "compress": None} | VARIANTS[variant]
    mesh = fc.Placement.grid(data=fc.world_size())
    fc.manual_seed(0)
    layers = [fc.nn.Linear(WIDTH, UNITS, bias=False) for _ in range(2)]
    for layer in layers:
        layer.place(mesh, {"*": sbp})
    opt = fc.optim.AdamW([layer.weight for layer in layers], lr=0.01, **told)
    precision = fc.Precision("fp16", scale=SCALES[0], interval=2)

    @fc.compile(precision=precision, compress=options["compress"])
    def step(x: Any, factor: Any) -> None:
        for part in range(options["parts"]):
            first, second = (layer(x * (part + 1.0)) for layer in layers)
            # with several parts only the last one overflows
            ((first * (factor if part + 1 == options["parts"] else 1.0)).mean() + (second**2).mean()).backward()
        if options["clip"]:
            fc.optim.clip_grad_norm(opt.params, options["clip"])
        opt.step()
        opt.zero_grad()

    draw = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype("float32")
    x = fc.asarray(draw, placement=mesh, sbp={"data": fc.S(0)})
    watched, scales, changed = Told(layers, opt), [step.loss_scale], list[bool]()
    for is_inf in steps:
        factor = np.ones((ROWS, UNITS), "float32")
        factor[-1, -1] = 1e30 if is_inf else 1.0
        before = watched.bits()
        step(x, fc.asarray(factor, placement=mesh, sbp={"data": fc.S(0)}))
        changed.append(watched.bits() != before)
        scales.append(step.loss_scale)
    counts = opt.param_groups[0].counts.numpy().tolist()
    return scales, changed, [[layer.weight.numpy() for layer in layers], counts]


def check(strategy: str, variant: str) -> None:
    """On this rank: that step changes nothing but the scale; with replicas also: the others do what they do without."""
    scales, changed, (weights, counts) = story(strategy, variant)
    assert scales == SCALES and changed == [not is_inf for is_inf in INF]
    assert counts == [3.0, 3.0]
    if strategy != "replicas":
        return
    *_, (expected, _) = story(strategy, variant, tuple(is_inf for is_inf in INF if not is_inf))
    for one, other in zip(weights, expected, strict=True):  # a scale is a power of 2: it rounds nothing
        np.testing.assert_array_equal(one, other)
