"""Convolutions and transposed convolutions over one, two and three spatial dimensions; arguments as in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from flowcore.errors import ShapeError
from flowcore.nn.arrays import takes_arrays
from flowcore.nn.spatial import Lengths, Padding, batched_input, paddings, per_dimension, rows_of
from flowcore.ops.call import apply
from flowcore.ops.cast import aligned
from flowcore.ops.convolve import Convolve
from flowcore.tensor import Tensor

P = ParamSpec("P")


@takes_arrays
def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Lengths = 1,
    padding: Padding = 0,
    dilation: Lengths = 1,
    groups: int = 1,
) -> Tensor:
    """y[n,o,p] = bias[o] + Σ x[n,c,p·stride + k·dilation − padding] weight[o,c,k], with zeros around x.

    x: (n, channels, …) or without n; weight: (outputs, channels / groups, …); bias: (outputs,). Channels and outputs
    are cut into `groups` equal groups, each of which sees its own only. padding: see `spatial.paddings`. Split along
    space, every rank receives only the rows around its own.
    """
    x, weight = aligned(x, weight)
    taps = weight.shape[2:]
    x, is_single = _checked(x, weight, groups, "convolution", inputs=1, outputs=0)
    strides = per_dimension(stride, len(taps), "stride")
    dilations = per_dimension(dilation, len(taps), "dilation")
    pads = paddings(padding, taps, strides, dilations)
    rows = rows_of("convolution", x.shape[2:], taps, strides, dilations, pads)
    before = tuple(pad for pad, _ in pads)
    if groups == 1:
        y = apply(Convolve("nc,oc->no", "xwy", rows, strides, dilations, before), x, weight)
    else:
        op = Convolve("ngc,goc->ngo", "xwy", rows, strides, dilations, before)
        y = apply(op, _grouped(x, 1, groups), _grouped(weight, 0, groups))
    return _finished(y, weight.shape[0], rows, bias, is_single)


@takes_arrays
def transposed_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Lengths = 1,
    padding: Lengths = 0,
    output_padding: Lengths = 0,
    groups: int = 1,
    dilation: Lengths = 1,
) -> Tensor:
    """The gradient of `convolution` with this weight with respect to its input, where x is that of its result.

    x: (n, channels, …) or without n; weight: (channels, outputs / groups, …); bias: (outputs,). The result has
    (length − 1)·stride − 2·padding + dilation·(taps − 1) + output_padding + 1 rows.
    """
    x, weight = aligned(x, weight)
    taps = weight.shape[2:]
    x, is_single = _checked(x, weight, groups, "transposed convolution", inputs=0, outputs=1)
    strides = per_dimension(stride, len(taps), "stride")
    dilations = per_dimension(dilation, len(taps), "dilation")
    before = per_dimension(padding, len(taps), "padding", 0)
    extra = per_dimension(output_padding, len(taps), "output_padding", 0)
    if any(more >= max(s, d) for more, s, d in zip(extra, strides, dilations, strict=True)):
        raise ShapeError(f"output_padding {extra} with stride {strides}: it must be less than the stride or dilation")
    rows = tuple(
        (length - 1) * s - 2 * b + d * (k - 1) + more + 1
        for length, s, b, d, k, more in zip(x.shape[2:], strides, before, dilations, taps, extra, strict=True)
    )
    if min(rows) < 1:
        raise ShapeError(f"transposed convolution of {x.shape} with padding {before}: no row is left; pad less")
    if groups == 1:
        y = apply(Convolve("no,oc->nc", "ywx", rows, strides, dilations, before), x, weight)
    else:
        op = Convolve("ngo,goc->ngc", "ywx", rows, strides, dilations, before)
        y = apply(op, _grouped(x, 1, groups), _grouped(weight, 0, groups))
    return _finished(y, weight.shape[1] * groups, rows, bias, is_single)


def _checked(x: Tensor, weight: Tensor, groups: int, name: str, inputs: int, outputs: int) -> tuple[Tensor, bool]:
    """x with a batch dimension; `inputs`, `outputs`: the dimensions of these in the weight."""
    spatial = weight.ndim - 2
    if spatial not in (1, 2, 3):
        raise ShapeError(f"{name} with a weight of shape {weight.shape}: it has 1, 2 or 3 spatial dimensions")
    x, is_single = batched_input(x, spatial, name)
    wanted = weight.shape[inputs] * (groups if inputs == 1 else 1)
    if groups < 1 or x.shape[1] != wanted or weight.shape[0] % groups or 0 in weight.shape[2:]:
        raise ShapeError(
            f"{name} of {x.shape} with weight {weight.shape} in {groups} groups: the input needs {wanted} channels, "
            f"and the groups must divide them and the outputs"
        )
    return x, is_single


def _grouped(x: Tensor, axis: int, groups: int) -> Tensor:
    """x with its channels at `axis` as (groups, channels / groups)."""
    return x.reshape((*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :]))


def _finished(y: Tensor, outputs: int, rows: tuple[int, ...], bias: Tensor | None, is_single: bool) -> Tensor:
    """y as (n, outputs, …), or without n, with the bias added."""
    y = y.reshape((y.shape[0], outputs, *rows))
    if bias is not None:
        if bias.shape != (outputs,):
            raise ShapeError(f"a bias of shape {bias.shape} for {outputs} outputs: it needs shape ({outputs},)")
        y = y + bias.reshape((outputs, *(1,) * len(rows)))
    return y.reshape(y.shape[1:]) if is_single else y


def _over(spatial: int, f: Callable[P, Tensor], name: str) -> Callable[P, Tensor]:
    """`f` for weights of `spatial` spatial dimensions only."""

    @wraps(f)
    def checked(*arguments: P.args, **options: P.kwargs) -> Tensor:
        weight = arguments[1] if len(arguments) > 1 else options.get("weight")
        if isinstance(weight, Tensor) and weight.ndim != spatial + 2:
            raise ShapeError(f"{name} with a weight of shape {weight.shape}: it needs {spatial + 2} dimensions")
        return f(*arguments, **options)

    checked.__name__ = checked.__qualname__ = name
    return checked


conv1d, conv2d, conv3d = (_over(n, convolution, f"conv{n}d") for n in (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = (
    _over(n, transposed_convolution, f"conv_transpose{n}d") for n in (1, 2, 3)
)
