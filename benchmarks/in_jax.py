"""The models of the training benchmark in JAX: the whole step as one jitted function with donated state."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import workloads
from jax import numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from resnet_jax import resnet

Model = Callable[..., Any]
"""From weights and inputs to logits."""


def train(workload: Any, ranks: int) -> tuple[Callable[[int], float], int]:
    """(from the number of a batch to its loss, after the update; this process's rank). Several: data parallel."""
    rank, weights = int(os.environ.get("RANK", "0")), workload.fused_weights()
    if ranks > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{os.environ['MASTER_PORT']}", ranks, rank)
    mesh = Mesh(np.array(jax.devices()), ("data",))

    def everywhere(value: Any) -> Any:
        return jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec()), value)

    def by_rows(value: Any) -> Any:
        part = slice(rank * len(value) // ranks, (rank + 1) * len(value) // ranks)
        return jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("data")), value[part])

    logits = MODELS[type(workload)](workload)

    tables = getattr(workload, "tables", ())  # of these the rows that a batch names have gradients, not the tables

    def loss_of(w: Any, rows: Any, *batch: Any) -> Any:
        *x, y = batch
        logs = jax.nn.log_softmax(logits(w | rows, *x))
        return -jnp.take_along_axis(logs, y[..., None], -1).mean()

    def update(w: Any, m: Any, v: Any, t: Any, *batch: Any) -> Any:
        rest = {name: value for name, value in w.items() if name not in tables}
        rows = {name: w[name][batch[0]] for name in tables}
        loss, (g, changes) = jax.value_and_grad(loss_of, (0, 1))(rest, rows, *batch)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        rate, fix = workloads.LEARNING_RATE / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
        rest = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) / fix + 1e-8), rest, m, v)
        changed = {name: w[name].at[batch[0]].add(-workloads.TABLE_RATE * changes[name]) for name in tables}
        return rest | changed, m, v, t + 1, loss

    compiled = jax.jit(update, donate_argnums=(0, 1, 2))
    batches = [tuple(map(by_rows, given)) for given in workload.batches()]
    w = {name: everywhere(value) for name, value in weights.items()}
    m, v = ({name: everywhere(value * 0) for name, value in weights.items() if name not in tables} for _ in range(2))
    state: list[Any] = [w, m, v, everywhere(np.ones((), "f4"))]

    def step(number: int) -> float:
        *state[:], loss = compiled(*state, *batches[number])
        return float(loss)

    return step, rank


def mlp(workload: Any) -> Model:
    """Linear layers with relu between them."""
    names = [name[:-5] for name in workload.weights() if name.endswith(".bias")]  # jax sorts the keys of a dict

    def logits(w: Any, x: Any) -> Any:
        for name in names:
            x = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
            x = jax.nn.relu(x) if name != names[-1] else x
        return x

    return logits


def gpt(workload: Any) -> Model:
    """The GPT of the example, with one product for query, key and value, and jax's own attention."""

    def norm(w: Any, name: str, x: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(w: Any, name: str, x: Any) -> Any:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def logits(w: Any, ids: Any) -> Any:
        x = w["tokens.weight"][ids] + w["places.weight"]
        for i in range(workload.layers):
            block, shape = f"blocks.{i}", (*ids.shape, workload.heads, -1)
            parts = jnp.split(linear(w, f"{block}.qkv", norm(w, f"{block}.attention_norm", x)), 3, axis=-1)
            mixed = jax.nn.dot_product_attention(*(part.reshape(shape) for part in parts), is_causal=True)
            x = x + linear(w, f"{block}.project", mixed.reshape(x.shape))
            x = x + linear(w, f"{block}.down", jax.nn.gelu(linear(w, f"{block}.up", norm(w, f"{block}.mlp_norm", x))))
        return norm(w, "norm", x) @ w["tokens.weight"].T

    return logits


def wide_deep(workload: Any) -> Model:
    """The wide & deep model of the example; where its weights have a table, it is given the rows of the batch."""
    dense = mlp(workload)

    def logits(w: Any, ids: Any, numbers: Any) -> Any:
        x = jnp.concatenate([w["deep.weight"].reshape(len(ids), -1), numbers], 1)
        return dense(w, x) + w["wide.weight"].sum(1)

    return logits


MODELS: dict[type, Callable[[Any], Model]] = {
    workloads.MLP: mlp,
    workloads.GPT: gpt,
    workloads.ResNet: resnet,
    workloads.WideDeep: wide_deep,
}
