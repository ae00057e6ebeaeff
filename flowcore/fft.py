"""Discrete Fourier transforms: the array API standard's `fft`, and numpy's two-dimensional ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowcore.dispatch import operands
from flowcore.dtypes import NARROW, as_dtype, complex_dtype, float32, is_real
from flowcore.errors import DTypeError, ShapeError
from flowcore.ops.arrange import roll
from flowcore.ops.axes import axes_of, axis_of, whole_number
from flowcore.ops.call import apply
from flowcore.ops.cast import astype, floating
from flowcore.ops.complex import conj
from flowcore.ops.create import arange
from flowcore.ops.fourier import OTHER, Fourier, InverseRealFourier, RealFourier
from flowcore.ops.fourier import Norm as Scale
from flowcore.ops.indexing import getitem
from flowcore.ops.join import pad
from flowcore.ops.selection import where
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import SbpLike
from flowcore.tensor import Tensor, TensorLike

__all__ = [
    "fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "ifft", "ifft2", "ifftn", "ifftshift", "ihfft", "irfft",
    "irfft2", "irfftn", "rfft", "rfft2", "rfftfreq", "rfftn",
]  # fmt: skip

Lengths = Sequence[int] | None
Norm = str | None
LAST_TWO = (-2, -1)


def fft(x: TensorLike, /, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Tensor:
    """The transform along `axis`, of x cut or padded with zeros to length n."""
    return _complex(x, _one(n), (axis,), norm, inverse=False)


def ifft(x: TensorLike, /, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Tensor:
    """The inverse of `fft`."""
    return _complex(x, _one(n), (axis,), norm, inverse=True)


def fftn(x: TensorLike, /, s: Lengths = None, axes: Sequence[int] | None = None, norm: Norm = "backward") -> Tensor:
    """The transform along `axes` (None: the last len(s), or all), of x cut or padded with zeros to lengths s."""
    return _complex(x, s, axes, norm, inverse=False)


def ifftn(x: TensorLike, /, s: Lengths = None, axes: Sequence[int] | None = None, norm: Norm = "backward") -> Tensor:
    """The inverse of `fftn`."""
    return _complex(x, s, axes, norm, inverse=True)


def fft2(x: TensorLike, /, s: Lengths = None, axes: Sequence[int] = LAST_TWO, norm: Norm = "backward") -> Tensor:
    """`fftn` along the last two dimensions."""
    return fftn(x, s, axes, norm)


def ifft2(x: TensorLike, /, s: Lengths = None, axes: Sequence[int] = LAST_TWO, norm: Norm = "backward") -> Tensor:
    """`ifftn` along the last two dimensions."""
    return ifftn(x, s, axes, norm)


def rfft(x: TensorLike, /, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Tensor:
    """The first n // 2 + 1 elements of `fft` of real x, of which the others are conjugates."""
    return rfftn(x, _one(n), (axis,), norm)


def irfft(x: TensorLike, /, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Tensor:
    """The inverse of `rfft`: n real elements, by default 2 (m - 1) for m of x."""
    return irfftn(x, _one(n), (axis,), norm)


def rfftn(x: TensorLike, /, s: Lengths = None, axes: Sequence[int] | None = None, norm: Norm = "backward") -> Tensor:
    """`fftn` of real x with half of the last of `axes`, as in `rfft`."""
    tensor = _prepared(x)
    if tensor.dtype.kind == "c":
        raise DTypeError(f"a real transform of {tensor.dtype}: take real, or use fftn")
    lengths, places = _lengths(tensor, s, axes)
    half = apply(RealFourier(places[-1:], _norm(norm)), _resized(tensor, lengths, places))
    return apply(Fourier(places[:-1], _norm(norm)), half) if places[1:] else half


def irfftn(x: TensorLike, /, s: Lengths = None, axes: Sequence[int] | None = None, norm: Norm = "backward") -> Tensor:
    """The inverse of `rfftn`: real, with s[-1] elements along the last of `axes`, by default 2 (m - 1) for m of x."""
    tensor = _prepared(x)
    tensor = astype(tensor, complex_dtype(tensor.dtype))
    lengths, places = _lengths(tensor, s, axes)
    last = lengths[-1] if s is not None and s[-1] != -1 else 2 * (tensor.shape[places[-1]] - 1)
    if last < 1:
        raise ShapeError(f"irfft of shape {tensor.shape} to length {last} along axis {places[-1]}: give n, 1 or more")
    cut = _resized(tensor, [*lengths[:-1], last // 2 + 1], places)
    whole = apply(Fourier(places[:-1], _norm(norm), True), cut) if places[1:] else cut
    return apply(InverseRealFourier(places[-1:], _norm(norm), last), whole)


def rfft2(x: TensorLike, /, s: Lengths = None, axes: Sequence[int] = LAST_TWO, norm: Norm = "backward") -> Tensor:
    """`rfftn` along the last two dimensions."""
    return rfftn(x, s, axes, norm)


def irfft2(x: TensorLike, /, s: Lengths = None, axes: Sequence[int] = LAST_TWO, norm: Norm = "backward") -> Tensor:
    """`irfftn` along the last two dimensions."""
    return irfftn(x, s, axes, norm)


def hfft(x: TensorLike, /, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Tensor:
    """The real transform, of length n, of x that is the first half of a Hermitian sequence."""
    return irfft(conj(_prepared(x)), n, axis, OTHER[_norm(norm)])


def ihfft(x: TensorLike, /, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Tensor:
    """The inverse of `hfft`, of real x."""
    return conj(rfft(x, n, axis, OTHER[_norm(norm)]))


def fftfreq(
    n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None, placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:  # fmt: skip
    """The frequencies of `fft` of n samples at distances d: 0, 1, …, -2, -1 over n d."""
    places = arange(_count(n), device=device, placement=placement, sbp=sbp)
    return _over(where(places < (n + 1) // 2, places, places - n), n * d, dtype)


def rfftfreq(
    n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None, placement: Placement | None = None,
    sbp: SbpLike | None = None,
) -> Tensor:  # fmt: skip
    """The frequencies of `rfft` of n samples at distances d: 0, 1, …, n // 2 over n d."""
    return _over(arange(_count(n) // 2 + 1, device=device, placement=placement, sbp=sbp), n * d, dtype)


def fftshift(x: TensorLike, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """x with the element of frequency 0 in the middle of `axes` (None: all)."""
    return _shifted(x, axes, 1)


def ifftshift(x: TensorLike, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """The inverse of `fftshift`."""
    return _shifted(x, axes, -1)


def _complex(x: TensorLike, s: Lengths, axes: Sequence[int] | None, norm: Norm, *, inverse: bool) -> Tensor:
    tensor = _prepared(x)
    lengths, places = _lengths(tensor, s, axes)
    return apply(
        Fourier(places, _norm(norm), inverse),
        astype(_resized(tensor, lengths, places), complex_dtype(tensor.dtype)),
    )


def _prepared(x: TensorLike) -> Tensor:
    """`x` in single or double precision."""
    (tensor,) = floating(x)
    return astype(tensor, float32) if tensor.dtype in NARROW else tensor


def _one(n: int | None) -> Lengths:
    """The lengths of one axis; only of several may one be -1."""
    if n is not None and whole_number(n, "a Fourier transform to length") < 1:
        raise ShapeError(f"a Fourier transform to length {n}: give lengths of 1 or more, or None for it as it is")
    return None if n is None else (n,)


def _norm(norm: Norm) -> Scale:
    for known in OTHER:
        if norm in (known, None):
            return known
    raise ShapeError(f"a Fourier transform with norm {norm!r}: give one of {', '.join(map(repr, OTHER))}")


def _lengths(x: Tensor, s: Lengths, axes: Sequence[int] | None) -> tuple[list[int], tuple[int, ...]]:
    """(length, axis) of every axis to transform; a length of -1: as it is."""
    if axes is None:
        axes = range(x.ndim) if s is None else range(x.ndim - len(s), x.ndim)
    places = tuple(axis_of(axis, x.ndim, "a Fourier transform") for axis in axes)
    if not places or len(set(places)) != len(places) or (s is not None and len(s) != len(places)):
        raise ShapeError(f"a Fourier transform along axes {places} to lengths {s}: name each axis and its length once")
    wanted = [-1] * len(places) if s is None else s
    return [x.shape[a] if n == -1 else n for a, n in zip(places, wanted, strict=True)], places


def _resized(x: Tensor, lengths: Sequence[int], axes: Sequence[int]) -> Tensor:
    """`x` cut or padded with zeros at the end of `axes` to `lengths`."""
    wanted = dict(zip(axes, lengths, strict=True))
    if any(length < 1 for length in lengths):
        raise ShapeError(f"a Fourier transform to lengths {tuple(lengths)}: give lengths of 1 or more")
    cut = getitem(x, tuple(slice(wanted.get(axis)) for axis in range(x.ndim)))
    missing = [(0, wanted.get(axis, length) - length) for axis, length in enumerate(cut.shape)]
    return pad(cut, missing) if any(after for _, after in missing) else cut


def _shifted(x: TensorLike, axes: int | Sequence[int] | None, sign: int) -> Tensor:
    (tensor,) = operands(x)
    places = axes_of(axes, tensor.ndim, "fftshift")
    half = [tensor.shape[axis] // 2 * sign for axis in places]
    return roll(tensor, half, axis=places) if places else tensor


def _count(n: int) -> int:
    if n < 1:
        raise ShapeError(f"frequencies of {n} samples: give 1 or more")
    return n


def _over(numbers: Tensor, length: float, dtype: Any) -> Tensor:
    made = float32 if dtype is None else as_dtype(dtype)
    if not is_real(made):
        raise DTypeError(f"frequencies of {made}: they are real floating; cast with astype")
    return astype(numbers, made) / length
