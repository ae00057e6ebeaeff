"""The models of the training benchmark in PyTorch: eager, compiled, and its ways to use several processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
import workloads
from resnet_torch import resnet
from torch import nn
from torch.nn import functional


def train(
    workload: Any,
    ranks: int,
    is_compiled: bool = False,
    way: str = "ddp",
    is_channels_last: bool = False,
    precision: str | None = None,
) -> tuple[Callable[[int], float], int]:
    """(from the number of a batch to its loss, after the update; this process's rank).

    way: with several processes "ddp", "fsdp" (FSDP2) or "tensor" parallel, over gloo.
    """
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model: Any = MODELS[type(workload)](workload)
    rank, parts = int(os.environ.get("RANK", "0")), 1
    if is_channels_last:
        model = model.to(memory_format=torch.channels_last)
    if ranks > 1:
        torch.distributed.init_process_group("gloo")
        model = WAYS[way](model, ranks)
        parts = 1 if way == "tensor" else ranks
    optimizers = _optimizers(model)
    place = rank % parts
    rows = slice(place * workload.batch // parts, (place + 1) * workload.batch // parts)
    batches = [tuple(_input(part[rows], is_channels_last) for part in given) for given in workload.batches()]

    def loss_of(*batch: Any) -> Any:
        *x, y = batch
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(*x)
        return functional.cross_entropy(logits.float().reshape(-1, logits.shape[-1]), y.reshape(-1))

    forward = torch.compile(loss_of) if is_compiled else loss_of

    def step(number: int) -> float:
        for opt in optimizers:
            opt.zero_grad()
        loss = forward(*batches[number])
        loss.backward()
        for opt in optimizers:
            opt.step()
        if parts > 1:
            loss = loss.detach()
            torch.distributed.all_reduce(loss)
        return float(loss.item()) / parts

    return step, rank


def _input(part: Any, is_channels_last: bool) -> Any:
    tensor = torch.from_numpy(part.copy())
    return tensor.to(memory_format=torch.channels_last) if is_channels_last and tensor.ndim == 4 else tensor


def _optimizers(model: Any) -> list[Any]:
    """Fused Adam for the tensors of one process, and for those spread over several, which it takes apart.

    Tables whose gradients are sparse are trained by gradient descent.
    """
    from torch.distributed.tensor import DTensor

    tables = [part.weight for part in model.modules() if isinstance(part, nn.Embedding) and part.sparse]
    groups: dict[bool, list[Any]] = {}
    for parameter in model.parameters():
        if not any(parameter is table for table in tables):
            groups.setdefault(isinstance(parameter, DTensor), []).append(parameter)
    found: list[Any] = [torch.optim.Adam(group, lr=workloads.LEARNING_RATE, fused=True) for group in groups.values()]
    return [*found, torch.optim.SGD(tables, lr=workloads.TABLE_RATE)] if tables else found


def _fsdp(model: Any, ranks: int) -> Any:
    """Parameters, gradients and states split over the processes, block by block."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (ranks,))
    for block in getattr(model, "blocks", []):
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def _tensor(model: Any, ranks: int) -> Any:
    """Pairs of linear layers split by columns and rows; attention by heads."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    mesh, splits = init_device_mesh("cpu", (ranks,)), {True: ColwiseParallel, False: RowwiseParallel}
    if isinstance(model, nn.Sequential):
        return parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    for block in model.blocks:
        block.split_heads(ranks)
        parts = {
            name: splits[name not in ("project", "down")]() for name, _ in block.named_children() if "norm" not in name
        }
        parallelize_module(block, mesh, parts)
    return model


WAYS: dict[str, Callable[[Any, int], Any]] = {
    "ddp": lambda model, ranks: nn.parallel.DistributedDataParallel(model),
    "fsdp": _fsdp,
    "tensor": _tensor,
}


def mlp(workload: Any) -> Any:
    """Linear layers with relu between them."""
    weights, layers = list(workload.weights().values()), list[nn.Module]()
    for weight, bias in zip(weights[::2], weights[1::2], strict=True):
        linear = nn.Linear(*weight.shape[::-1])
        linear.weight.data, linear.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Block(nn.Module):
    """One product for query, key and value, or three where heads are split over processes; torch's own attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.size = width // heads

    def split_heads(self, ranks: int) -> None:
        """Three products instead of one, so that each can be split by heads."""
        weights, biases = self.qkv.weight.data.chunk(3), self.qkv.bias.data.chunk(3)
        del self.qkv
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            linear = nn.Linear(*weight.shape)
            linear.weight.data, linear.bias.data = weight.clone(), bias.clone()
            setattr(self, name, linear)

    def forward(self, x: Any) -> Any:
        read = self.attention_norm(x)
        if hasattr(self, "qkv"):
            parts = self.qkv(read).chunk(3, dim=2)
        else:
            parts = self.query(read), self.key(read), self.value(read)
        q, k, v = (part.unflatten(2, (-1, self.size)).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(self.mlp_norm(x)), approximate="tanh"))


class GPT(nn.Module):
    """The GPT of the example."""

    def __init__(self, workload: Any) -> None:
        super().__init__()
        self.tokens = nn.Embedding(workload.vocabulary, workload.width)
        self.places = nn.Embedding(workload.context, workload.width)
        self.blocks = nn.ModuleList([Block(workload.width, workload.heads) for _ in range(workload.layers)])
        self.norm = nn.LayerNorm(workload.width)

    def forward(self, ids: Any) -> Any:
        x = self.tokens(ids) + self.places.weight
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.tokens.weight.T


def gpt(workload: Any) -> Any:
    """The GPT with the weights of the workload."""
    model = GPT(workload)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in workload.fused_weights().items()})
    return model


class WideDeep(nn.Module):
    """The wide & deep model of the example, whose tables have sparse gradients."""

    def __init__(self, workload: Any) -> None:
        super().__init__()
        inputs = workload.fields * workload.width + workload.numbers
        self.wide = nn.Embedding(workload.rows, workload.classes, sparse=True)
        self.deep = nn.Embedding(workload.rows, workload.width, sparse=True)
        self.up, self.middle = nn.Linear(inputs, workload.hidden), nn.Linear(workload.hidden, workload.hidden // 2)
        self.down = nn.Linear(workload.hidden // 2, workload.classes)

    def forward(self, ids: Any, numbers: Any) -> Any:
        x = torch.cat([self.deep(ids).flatten(1), numbers], 1)
        return self.down(functional.relu(self.middle(functional.relu(self.up(x))))) + self.wide(ids).sum(1)


def wide_deep(workload: Any) -> Any:
    """The model with the weights of the workload."""
    model = WideDeep(workload)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in workload.weights().items()})
    return model


MODELS: dict[type, Callable[[Any], Any]] = {
    workloads.MLP: mlp,
    workloads.GPT: gpt,
    workloads.ResNet: resnet,
    workloads.WideDeep: wide_deep,
}
