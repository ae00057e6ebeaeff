"""The ResNet of the training benchmark in JAX, with the parameter names of the example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp


def resnet(workload: Any) -> Callable[[Mapping[str, Any], Any], Any]:
    """(weights, images (n, 3, h, w)) → logits, channels last; without running statistics, which nothing reads."""

    def conv(w: Mapping[str, Any], name: str, x: Any, stride: int) -> Any:
        weight = w[f"{name}.weight"]
        pad = weight.shape[-1] // 2
        return lax.conv_general_dilated(
            x, weight, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "OIHW", "NHWC")
        )

    def norm(w: Mapping[str, Any], name: str, x: Any) -> Any:
        centred = x - x.mean((0, 1, 2))
        scaled = centred * lax.rsqrt((centred * centred).mean((0, 1, 2)) + 1e-5)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def model(w: Mapping[str, Any], x: Any) -> Any:
        x = jax.nn.relu(norm(w, "norm", conv(w, "conv", jnp.transpose(x, (0, 2, 3, 1)), 1)))
        for i, (inputs, outputs) in enumerate(workload.widths):
            block, stride = f"blocks.{i}", outputs // inputs
            y = jax.nn.relu(norm(w, f"{block}.norm1", conv(w, f"{block}.conv1", x, stride)))
            y = norm(w, f"{block}.norm2", conv(w, f"{block}.conv2", y, 1))
            if stride > 1:
                x = norm(w, f"{block}.short_norm", conv(w, f"{block}.short", x, stride))
            x = jax.nn.relu(y + x)
        return x.mean((1, 2)) @ w["head.weight"].T + w["head.bias"]

    return model
