"""flowcore: distributed training in which a tensor is logical and data movement is an operator."""

from importlib import import_module

from flowcore import _checkout as _checkout  # isort: skip
from flowcore import data as data
from flowcore import fft as fft
from flowcore import linalg as linalg
from flowcore import nn as nn
from flowcore import optim as optim
from flowcore import random as random
from flowcore import testing as testing
from flowcore.calls import *
from flowcore.compile import compile as compile
from flowcore.compression import Compression as Compression
from flowcore.cond import *
from flowcore.declared import declare as _declare
from flowcore.derivatives import *
from flowcore.dispatch import asarray as asarray
from flowcore.dispatch import to_global as to_global
from flowcore.dtypes import *
from flowcore.errors import *
from flowcore.explain import *
from flowcore.grad import *
from flowcore.inspection import *
from flowcore.interop import *
from flowcore.mixed import Precision as Precision
from flowcore.ops.alias import *
from flowcore.ops.argument import *
from flowcore.ops.arithmetic import *
from flowcore.ops.arrange import *
from flowcore.ops.assignment import *
from flowcore.ops.bits import *
from flowcore.ops.cast import *
from flowcore.ops.comparison import *
from flowcore.ops.complex import *
from flowcore.ops.contract import *
from flowcore.ops.create import *
from flowcore.ops.cumulative import *
from flowcore.ops.dynamic import *
from flowcore.ops.einsum import *
from flowcore.ops.erf import *
from flowcore.ops.erf_inverse import *
from flowcore.ops.extrema import *
from flowcore.ops.floats import *
from flowcore.ops.gamma import *
from flowcore.ops.gather import *
from flowcore.ops.hyperbolic import *
from flowcore.ops.indexing import *
from flowcore.ops.join import *
from flowcore.ops.like import *
from flowcore.ops.logsumexp import *
from flowcore.ops.matrix import *
from flowcore.ops.products import *
from flowcore.ops.quantile import *
from flowcore.ops.reduce import *
from flowcore.ops.rounding import *
from flowcore.ops.row_updates import *
from flowcore.ops.scatter import *
from flowcore.ops.search import *
from flowcore.ops.selection import *
from flowcore.ops.sets import *
from flowcore.ops.shape import *
from flowcore.ops.sort import *
from flowcore.ops.statistics import *
from flowcore.ops.triangle import *
from flowcore.ops.trigonometry import *
from flowcore.ops.unary import *
from flowcore.place import from_local as from_local
from flowcore.place import use as use
from flowcore.placement.layout import Layout as Layout
from flowcore.placement.mesh import Placement as Placement
from flowcore.placement.sbp import B as B
from flowcore.placement.sbp import P as P
from flowcore.placement.sbp import Partial as Partial
from flowcore.placement.sbp import S as S
from flowcore.planned import Plan as Plan
from flowcore.random import manual_seed as manual_seed
from flowcore.scan import *
from flowcore.share import *
from flowcore.tensor import Tensor as Tensor
from flowcore.vmap import vmap as vmap
from flowcore.while_loop import *
from flowcore.world import rank as rank
from flowcore.world import world_size as world_size

_declare(globals(), *map(vars, (data, fft, linalg, nn, optim, random, testing)))

__version__ = "0.1.0"

bool = bool_  # noqa: F405  # star imports bring it; the array API's name hides the builtin in this namespace only


def __getattr__(name: str) -> object:
    """`launch`, the layer above, is loaded when it is first asked for."""
    if name == "launch":
        return import_module("flowcore.launch")
    raise AttributeError(f"module 'flowcore' has no attribute {name!r}")
