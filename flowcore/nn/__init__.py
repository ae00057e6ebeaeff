"""Modules, layers and their functions."""

from flowcore.nn import init as init
from flowcore.nn.activation_layers import GELU, ReLU, Sigmoid, SiLU, Softmax, Tanh
from flowcore.nn.activations import gelu, log_softmax, relu, sigmoid, silu, softmax
from flowcore.nn.containers import ModuleList, Sequential
from flowcore.nn.convolution import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from flowcore.nn.convolution_layers import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from flowcore.nn.pooling import avg_pool
from flowcore.nn.functions import dropout, embedding, layer_norm, linear
from flowcore.nn.layers import Dropout, Embedding, LayerNorm, Linear
from flowcore.nn.losses import cross_entropy, mse_loss
from flowcore.nn.module import Module, Parameter

__all__ = [
    "GELU",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Dropout",
    "Embedding",
    "LayerNorm",
    "Linear",
    "Module",
    "ModuleList",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "init",
    "layer_norm",
    "linear",
    "log_softmax",
    "mse_loss",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
]  # fmt: skip
