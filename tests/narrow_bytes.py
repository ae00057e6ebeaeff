"""Training steps in every precision, with every compression and stage of ZeRO, and the bytes that each must move."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

import flowcore as fc

SHAPES = ((64, 20), (8, 64))
"""Of the weights, (units, inputs)."""
STRATEGIES: dict[str, tuple[str, dict[str, Any]]] = {
    "replicas": ("B", {}), "ZeRO-1": ("B", {"shard_states": "data"}), "ZeRO-3": ("S0", {}),
}  # fmt: skip
PRECISIONS, COMPRESSIONS = (None, "bf16", "fp16"), (None, "bf16", "1bit")
TABLE = [*product(STRATEGIES, PRECISIONS, COMPRESSIONS)]


def theory(strategy: str, precision: str | None, compress: str | None, ranks: int) -> int:
    """Bytes that a step moves over all ranks: gradients, gathered parameters, and whether all is finite.

    What is reduced to parts moves p - 1 times, to all ranks twice that; what is gathered moves p - 1 times. A row of
    signs is a bit an element, in whole bytes, and two means; each rank reads those of all others, whole or its parts.
    """
    others, numbers = ranks - 1, sum(units * inputs for units, inputs in SHAPES)
    stored = 4 if precision is None else 2
    sent = numbers * (2 if compress else stored)
    signs = sum(units * (-(-inputs // 8) + 2 * 4) for units, inputs in SHAPES)
    is_signs = compress == "1bit"
    match strategy:
        case "replicas":
            return others * (ranks * signs if is_signs else 2 * sent)
        case "ZeRO-1":
            gradients, parameters, is_whole = ranks * signs if is_signs else sent, numbers * 4, is_signs
        case _:
            gradients, parameters, is_whole = signs if is_signs else sent, numbers * stored, False
    mark = 2 * 4 if precision == "fp16" and not is_whole else 0
    return others * (gradients + parameters + mark)


def step_of(strategy: str, precision: str | None, compress: str | None) -> Any:
    """A compiled step on all ranks, which takes no arguments."""
    sbp, options = STRATEGIES[strategy]
    mesh = fc.Placement.grid(data=fc.world_size())
    fc.manual_seed(0)
    up, down = (fc.nn.Linear(inputs, units, bias=False) for units, inputs in SHAPES)
    for layer in (up, down):
        layer.place(mesh, {"*": sbp})
    opt = fc.optim.AdamW([up.weight, down.weight], **options)
    rows = 400  # so many that no plan moves activations instead
    draw = np.random.default_rng(0).normal(size=(rows, SHAPES[0][1])).astype("float32")
    x = fc.asarray(draw, placement=mesh, sbp={"data": fc.S(0)})

    @fc.compile(precision=precision, compress=compress)
    def step() -> None:
        (down(fc.nn.relu(up(x))) ** 2).mean().backward()
        opt.step()
        opt.zero_grad()

    return step
