"""One training process of the benchmark: a model trained by flowcore or by a rival, timed, as one line of JSON.

    python benchmarks/contenders.py NAME MODEL STEPS THREADS RANKS

It prints the losses of the first steps, the median seconds of a step (by the clock, and of processor time of all
threads of this process), the seconds to the first loss, and the peak memory of the process.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import workloads

WARM = 3
KEPT_LOSSES = 6
Step = Callable[[int], float]
"""From the number of a batch to its loss, after the update."""


def flowcore(workload: Any, ranks: int) -> tuple[Step, Callable[[], bool]]:
    """This checkout, data parallel over `ranks` MPI ranks."""
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "examples")]
    import flowcore as fc

    mesh = fc.Placement.grid(data=ranks, model=1)
    model = flowcore_model(workload)
    model.load_state_dict(workload.weights())
    model.place(mesh)
    opt = fc.optim.Adam(model.parameters(), lr=workloads.LEARNING_RATE)
    batches = [
        tuple(fc.asarray(part, placement=mesh, sbp={"data": fc.S(0)}) for part in pair) for pair in workload.batches()
    ]

    @fc.compile
    def step(x: fc.Tensor, y: fc.Tensor) -> fc.Tensor:
        loss = fc.nn.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    return lambda number: float(step(*batches[number]).item()), lambda: fc.rank() == 0


def flowcore_model(workload: Any) -> Any:
    """The model of the example, or as many linear layers as the sizes say."""
    import gpt
    import mlp

    import flowcore as fc

    if isinstance(workload, workloads.GPT):
        sizes = {name: getattr(workload, name) for name in ("layers", "heads", "width", "context")}
        return gpt.GPT(gpt.Options(**sizes), workload.vocabulary)
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


def torch(workload: Any, ranks: int, is_compiled: bool = False) -> tuple[Step, Callable[[], bool]]:
    """PyTorch, eager or compiled; with 2 processes as DistributedDataParallel over gloo."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model: Any = torch_gpt(torch, workload) if isinstance(workload, workloads.GPT) else torch_mlp(torch, workload)
    rank = int(os.environ.get("RANK", "0"))
    if ranks > 1:
        torch.distributed.init_process_group("gloo")
        model = torch.nn.parallel.DistributedDataParallel(model)
    opt = torch.optim.Adam(model.parameters(), lr=workloads.LEARNING_RATE, fused=True)
    rows = slice(rank * workload.batch // ranks, (rank + 1) * workload.batch // ranks)
    batches = [tuple(torch.from_numpy(part[rows].copy()) for part in pair) for pair in workload.batches()]

    def loss_of(x: Any, y: Any) -> Any:
        logits = model(x)
        return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))

    forward = torch.compile(loss_of) if is_compiled else loss_of

    def step(number: int) -> float:
        opt.zero_grad()
        loss = forward(*batches[number])
        loss.backward()
        opt.step()
        if ranks > 1:
            loss = loss.detach()
            torch.distributed.all_reduce(loss)
        return float(loss.item()) / ranks

    return step, lambda: rank == 0


def torch_mlp(torch: Any, workload: Any) -> Any:
    """Linear layers with relu between them."""
    weights, layers = list(workload.weights().values()), []
    for weight, bias in zip(weights[::2], weights[1::2], strict=True):
        linear = torch.nn.Linear(*weight.shape[::-1])
        linear.weight.data, linear.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def torch_gpt(torch: Any, workload: Any) -> Any:
    """The GPT of the example, with one product for query, key and value, and torch's own attention."""
    nn, functional = torch.nn, torch.nn.functional
    width, heads = workload.width, workload.heads

    class Block(nn.Module):  # type: ignore[misc, name-defined]  # its base is known at run time only
        def __init__(self) -> None:
            super().__init__()
            self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            batch, time, _ = x.shape
            parts = self.qkv(self.attention_norm(x)).split(width, dim=2)
            q, k, v = (part.view(batch, time, heads, width // heads).transpose(1, 2) for part in parts)
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.project(mixed.transpose(1, 2).reshape(batch, time, width))
            return x + self.down(functional.gelu(self.up(self.mlp_norm(x)), approximate="tanh"))

    class Model(nn.Module):  # type: ignore[misc, name-defined]  # as above
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(workload.vocabulary, width)
            self.places = nn.Embedding(workload.context, width)
            self.blocks = nn.ModuleList([Block() for _ in range(workload.layers)])
            self.norm = nn.LayerNorm(width)

        def forward(self, ids: Any) -> Any:
            x = self.tokens(ids) + self.places.weight
            for block in self.blocks:
                x = block(x)
            return self.norm(x) @ self.tokens.weight.T

    model = Model()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in fused_weights(workload).items()})
    return model


def fused_weights(workload: Any) -> dict[str, Any]:
    """The weights with those of query, key and value as one."""
    import numpy as np

    found = {}
    for name, value in workload.weights().items():
        if ".query." in name:
            parts = [workload.weights()[name.replace("query", part)] for part in ("query", "key", "value")]
            found[name.replace("attention.query", "qkv")] = np.concatenate(parts)
        elif ".key." not in name and ".value." not in name:
            found[name.replace("attention.project", "project")] = value
    return found


def jax(workload: Any, ranks: int) -> tuple[Step, Callable[[], bool]]:
    """JAX on one process, the whole step as one jitted function with donated state."""
    import jax
    from jax import numpy as jnp

    is_gpt = isinstance(workload, workloads.GPT)
    weights = {name: jnp.asarray(value) for name, value in fused_weights(workload).items()}
    batches = [tuple(jnp.asarray(part) for part in pair) for pair in workload.batches()]

    names = [name[:-7] for name in workload.weights() if name.endswith(".weight")]  # jax sorts the keys of a dict

    def mlp(w: Any, x: Any) -> Any:
        for name in names:
            x = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
            x = jax.nn.relu(x) if name != names[-1] else x
        return x

    def norm(w: Any, name: str, x: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def gpt(w: Any, ids: Any) -> Any:
        def linear(name: str, x: Any) -> Any:
            return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

        x = w["tokens.weight"][ids] + w["places.weight"]
        for i in range(workload.layers):
            block, shape = f"blocks.{i}", (*ids.shape, workload.heads, -1)
            parts = jnp.split(linear(f"{block}.qkv", norm(w, f"{block}.attention_norm", x)), 3, axis=-1)
            mixed = jax.nn.dot_product_attention(*(part.reshape(shape) for part in parts), is_causal=True)
            x = x + linear(f"{block}.project", mixed.reshape(x.shape))
            x = x + linear(f"{block}.down", jax.nn.gelu(linear(f"{block}.up", norm(w, f"{block}.mlp_norm", x))))
        return norm(w, "norm", x) @ w["tokens.weight"].T

    def loss_of(w: Any, x: Any, y: Any) -> Any:
        logs = jax.nn.log_softmax((gpt if is_gpt else mlp)(w, x))
        return -jnp.take_along_axis(logs, y[..., None], -1).mean()

    def update(w: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> Any:
        loss, g = jax.value_and_grad(loss_of)(w, x, y)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        rate, fix = workloads.LEARNING_RATE / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
        w = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) / fix + 1e-8), w, m, v)
        return w, m, v, t + 1, loss

    compiled = jax.jit(update, donate_argnums=(0, 1, 2))
    zeros = [jax.tree.map(jnp.zeros_like, weights) for _ in range(2)]
    state: list[Any] = [weights, *zeros, jnp.ones(())]

    def step(number: int) -> float:
        *state[:], loss = compiled(*state, *batches[number])
        return float(loss)

    return step, lambda: True


CONTENDERS: dict[str, Callable[[Any, int], tuple[Step, Callable[[], bool]]]] = {
    "flowcore": flowcore,
    "torch": torch,
    "torch.compile": lambda workload, ranks: torch(workload, ranks, is_compiled=True),
    "jax": jax,
}


def main(name: str, model: str, steps: int, threads: int, ranks: int) -> None:
    """Train and print one line of JSON."""
    if threads * ranks == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    began = time.perf_counter()
    step, is_first = CONTENDERS[name](workloads.WORKLOADS[model], ranks)
    losses, seconds, busy = [step(0)], list[float](), list[float]()
    first = time.perf_counter() - began
    for number in islice(cycle(range(workloads.BATCHES)), 1, steps + WARM):
        start, worked = time.perf_counter(), time.process_time()
        losses.append(step(number))
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - worked)
    if is_first():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        times = {"seconds": median(seconds[WARM:]), "busy": median(busy[WARM:]), "first": first}
        found = {"losses": losses[:KEPT_LOSSES], "peak": peak, **times}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *(int(text) for text in sys.argv[3:]))
