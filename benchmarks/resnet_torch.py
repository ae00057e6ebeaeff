"""The ResNet of the training benchmark in PyTorch, with the parameter names of the example."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Two convolutions, added to a short way."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = outputs // inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.is_straight = stride == 1
        if not self.is_straight:
            self.short, self.short_norm = nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)

    def forward(self, x: Any) -> Any:
        y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        return functional.relu(y + (x if self.is_straight else self.short_norm(self.short(x))))


class ResNet(nn.Module):
    """The ResNet of the example."""

    def __init__(self, workload: Any) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, workload.width, 3, 1, 1, bias=False), nn.BatchNorm2d(workload.width)
        self.blocks = nn.ModuleList([Block(*pair) for pair in workload.widths])
        self.head = nn.Linear(workload.widths[-1][1], workload.classes)

    def forward(self, x: Any) -> Any:
        x = functional.relu(self.norm(self.conv(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


def resnet(workload: Any) -> Any:
    """The ResNet with the weights of the workload; statistics of batches begin as they are."""
    model = ResNet(workload)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in workload.weights().items()}, strict=False)
    return model
