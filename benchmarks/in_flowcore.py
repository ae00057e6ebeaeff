"""The models of the training benchmark, trained by this checkout: the examples, data parallel over MPI ranks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import workloads

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]


def train(workload: Any, ranks: int, precision: str | None = None) -> tuple[Callable[[int], float], int]:
    """(from the number of a batch to its loss, after the update; this process's rank)."""
    import flowcore as fc

    mesh = fc.Placement.grid(data=ranks, model=1)
    model = MODELS[type(workload)](workload)
    model.load_state_dict(workload.weights(), strict=False)  # statistics of batches begin as they are
    model.place(mesh)
    tables = getattr(workload, "tables", ())
    rest = [parameter for name, parameter in model.named_parameters() if name not in tables]
    opts: list[Any] = [fc.optim.Adam(rest, lr=workloads.LEARNING_RATE)]
    if tables:
        held = [parameter for name, parameter in model.named_parameters() if name in tables]
        opts.append(fc.optim.SGD(held, lr=workloads.TABLE_RATE))
    batches = [
        tuple(fc.asarray(part, placement=mesh, sbp={"data": fc.S(0)}) for part in given) for given in workload.batches()
    ]

    @fc.compile(**({"precision": precision} if precision else {}))
    def step(*batch: fc.Tensor) -> fc.Tensor:
        *x, y = batch
        loss = fc.nn.cross_entropy(model(*x), y)
        loss.backward()
        for opt in opts:
            opt.step()
            opt.zero_grad()
        return loss

    return lambda number: float(step(*batches[number]).item()), fc.rank()


def mlp(workload: Any) -> Any:
    """The model of the example, or as many linear layers as the sizes say."""
    import mlp

    import flowcore as fc

    if len(workload.sizes) == 4:
        return mlp.MLP(workload.sizes[1])

    class Two(fc.nn.Module):
        def __init__(self) -> None:
            self.up, self.middle = (
                fc.nn.Linear(*pair) for pair in zip(workload.sizes, workload.sizes[1:], strict=False)
            )

        def forward(self, x: Any) -> Any:
            return self.middle(fc.nn.relu(self.up(x)))

    return Two()


def gpt(workload: Any) -> Any:
    """The model of the example."""
    import gpt

    sizes = {name: getattr(workload, name) for name in ("layers", "heads", "width", "context")}
    return gpt.GPT(gpt.Options(**sizes), workload.vocabulary)


def resnet(workload: Any) -> Any:
    """The model of the example."""
    import resnet

    return resnet.ResNet(workload.width, workload.blocks)


def wide_deep(workload: Any) -> Any:
    """The model of the example."""
    import wide_deep

    return wide_deep.WideDeep(workload.rows, workload.width, workload.fields, workload.hidden)


MODELS: dict[type, Callable[[Any], Any]] = {
    workloads.MLP: mlp,
    workloads.GPT: gpt,
    workloads.ResNet: resnet,
    workloads.WideDeep: wide_deep,
}
