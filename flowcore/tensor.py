"""The tensor: a logical array with a type, a placement and an SBP, held by each rank as its block.

A tensor is *concrete* (it has a block on every rank of its placement) or, while a function is traced, *symbolic* (it
names a value of the graph being built). Operators and methods look their function up by name in `FUNCTIONS`, so that
this module knows none of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from flowcore.dtypes import DType, is_float, kind_of
from flowcore.errors import CopyError, DTypeError, GradError, PlacementError, ShapeError, TraceError, VersionError
from flowcore.graph import Value
from flowcore.op import FUNCTIONS, Array, Op
from flowcore.operators import Operators
from flowcore.placement.layout import Layout, Shape, sbp_text
from flowcore.placement.mesh import Placement
from flowcore.placement.sbp import NdSbp, SbpLike
from flowcore.world import current

if TYPE_CHECKING:
    from flowcore.trace import Trace

TensorLike = Any
"""A Tensor, a numpy array or a Python scalar; what else `fc.asarray` takes."""
KNOWN_WITHOUT_VALUES = {np.shape: "shape", np.ndim: "ndim", np.size: "size"}


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """How a tensor came about: what reverse-mode differentiation walks back over."""

    op: Op
    inputs: tuple[Tensor, ...]
    versions: tuple[int, ...]
    outputs: tuple[Tensor, ...]
    sequence: int


class Tensor(Operators):
    """A logical n-dimensional array on a placement."""

    __slots__ = (
        "__weakref__", "_grad", "_requires_grad", "_scattered", "_value", "block", "is_free", "number", "record",
        "trace", "version",
    )  # fmt: skip
    __array_priority__ = 1000

    def __init__(self, value: Value, block: Array | None, trace: Trace | None = None, number: int = -1) -> None:
        self._value = value
        self.block = block
        self.trace = trace
        self.number = number
        self.record: Record | None = None
        self.version = 0
        self.is_free = False
        """Whether its layout is whatever the plan of the first compiled function that assigns to it finds best."""
        self._requires_grad = False
        self._grad: Tensor | None = None

    # what it is

    @property
    def value(self) -> Value:
        """Type, placement and SBP as the graph sees them."""
        return self._value

    @property
    def shape(self) -> Shape:
        """Lengths of the whole (logical) array."""
        return self._value.type.shape

    @property
    def dtype(self) -> DType:
        """The dtype of the elements."""
        return self._value.type.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self._value.type.shape)

    @property
    def size(self) -> int:
        """Number of elements of the whole array."""
        return self._value.type.size

    @property
    def placement(self) -> Placement:
        """The mesh of ranks it lives on."""
        return self._value.placement

    @property
    def device(self) -> Placement:
        """The array API's name of `placement`: where tensors beside this one are to be created."""
        return self._value.placement

    @property
    def sbp(self) -> NdSbp:
        """One SBP per mesh axis; TraceError while traced, before the planner has chosen it."""
        if self._value.sbp is None:
            raise TraceError("the sbp of a traced tensor is chosen by the planner: fix it with to_global(sbp=…)")
        return self._value.sbp

    @property
    def layout(self) -> Layout:
        """Placement and SBP in one."""
        return Layout(self.placement, self.sbp)

    # gradients

    @property
    def requires_grad(self) -> bool:
        """Whether operations on it are recorded for differentiation."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if wanted and not is_float(self.dtype):
            raise GradError(f"a tensor of dtype {self.dtype} has no gradient: cast it to a floating dtype first")
        if not wanted and self.record is not None:
            raise GradError("requires_grad can be cleared on leaves only: use detach()")
        self._requires_grad = wanted

    @property
    def is_leaf(self) -> bool:
        """Whether it was created by the user rather than computed from tensors that require gradients."""
        return self.record is None

    @property
    def grad(self) -> Tensor | None:
        """The gradient accumulated by `backward`, if any."""
        trace = current().trace
        return trace.read_grad(self) if trace is not None and self.trace is None else self._grad

    @grad.setter
    def grad(self, grad: Tensor | None) -> None:
        if grad is not None and grad.shape != self.shape:
            raise ShapeError(f"a gradient of shape {grad.shape} does not fit a tensor of shape {self.shape}")
        trace = current().trace
        if trace is not None and self.trace is None:
            trace.write_grad(self, grad)
        else:
            self._grad = grad

    @property
    def scattered(self) -> tuple[Tensor, Tensor] | None:
        """(indices, rows) where it is known as the sum of rows at indices of its first dimension, else zero; or None.

        The gradient of a table from which rows were taken is; an optimizer made for rows asks for it.
        """
        return getattr(self, "_scattered", None)

    @scattered.setter
    def scattered(self, parts: tuple[Tensor, Tensor] | None) -> None:
        self._scattered = parts

    def backward(self, gradient: Tensor | None = None) -> None:
        """Add the gradient of this scalar (or of `gradient` · self) to `.grad` of every leaf it depends on."""
        FUNCTIONS["backward"](self, gradient)

    def detach(self) -> Tensor:
        """The same value, through which no gradient flows."""
        trace = current().trace
        return Tensor(self._value, self.block, self.trace, self.number) if trace is None else trace.stopped(self)

    def requires_grad_(self, wanted: bool = True) -> Tensor:
        """Set `requires_grad`; returns self."""
        self.requires_grad = wanted
        return self

    def assign(self, new: Tensor) -> None:
        """Replace the value in place by that of `new` (same shape and dtype), keeping this tensor's layout."""
        FUNCTIONS["assign"](self, new)

    # data

    def to_global(
        self, placement: Placement | None = None, sbp: SbpLike | None = None, grad_sbp: SbpLike | None = None
    ) -> Tensor:
        """The same value on `placement`, laid out as `sbp`; its gradient comes back laid out as `grad_sbp`."""
        moved: Tensor = FUNCTIONS["to_global"](self, placement, sbp, grad_sbp)
        return FUNCTIONS["fresh"](self) if moved is self else moved

    def to_local(self) -> Array:
        """This rank's block, read-only; PlacementError on a rank outside the placement."""
        block = self._own_block("to_local")
        view = block.view()
        view.flags.writeable = False
        return view

    def numpy(self) -> Array:
        """The whole value as a fresh array, on every rank of the placement; collective over these."""
        self._own_block("numpy")
        whole = FUNCTIONS["gathered"](self)
        return np.array(whole.block)

    def item(self) -> Any:
        """The value of a tensor with one element as a Python scalar, on every rank of the placement; collective."""
        if self.size != 1:
            raise ShapeError(f"item() needs one element but the shape is {self.shape}: use numpy()")
        self._own_block("item")
        return FUNCTIONS["gathered"](self).block.item()

    def _own_block(self, what: str) -> Array:
        if self.trace is not None or current().trace is not None:
            # also for a tensor from outside: its value would be frozen into the graph and never read again
            raise TraceError(
                f"{what}() needs a value, but inside fc.compile a tensor has none: return it from the function instead"
            )
        if self.block is None:
            raise PlacementError(
                f"{what}() on rank {current().rank}, which is not in {self.placement}: "
                f"call it on the ranks of the placement, or move the tensor with to_global(placement=…)"
            )
        return self.block

    def astype(self, dtype: Any, *, copy: bool = True, device: Any = None) -> Tensor:
        """`fc.astype` of self."""
        return self._call("astype", dtype, copy=copy, device=device)

    def apply(self, op: Op) -> Tensor:
        """`op` applied to this tensor alone."""
        return FUNCTIONS["apply"](op, self)  # type: ignore[no-any-return]

    # the language: each method is the function of that name

    def _call(self, name: str, *others: Any, **options: Any) -> Tensor:
        return FUNCTIONS[name](self, *others, **options)  # type: ignore[no-any-return]

    def __getitem__(self, key: Any) -> Tensor:
        return self._call("getitem", key)

    def __setitem__(self, key: Any, value: TensorLike) -> None:
        FUNCTIONS["setitem"](self, key, value)

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError("a tensor without dimensions has no length: use .size")
        return self.shape[0]

    def __bool__(self) -> bool:
        return bool(self.item())

    def __int__(self) -> int:
        return int(self._number("int", "biuf"))

    def __float__(self) -> float:
        return float(self._number("float", "biuf"))

    def __complex__(self) -> complex:
        return complex(self._number("complex", "biufc"))

    def __index__(self) -> int:
        return int(self._number("index", "iu"))

    def _number(self, wanted: str, kinds: str) -> Any:
        if kind_of(self.dtype) not in kinds:
            raise DTypeError(f"{self.dtype} cannot become an {wanted} of Python: cast it with astype first")
        return self.item()

    def __iter__(self) -> Iterator[Tensor]:
        return iter([self[place] for place in range(len(self))])

    def __contains__(self, value: TensorLike) -> bool:
        return bool(FUNCTIONS["any"](self._call("equal", value)))

    # other libraries

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is not False:
            return np.asarray(self.numpy(), dtype=dtype)
        whole: Array = FUNCTIONS["whole"](self)
        if dtype is not None and np.dtype(dtype) != whole.dtype:
            raise CopyError(f"an array of {dtype} is a copy of a tensor of {self.dtype}: leave out copy=False")
        return whole

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        """numpy's functions are those of the arrays; what needs no values moves none."""
        if function in KNOWN_WITHOUT_VALUES and len(arguments) == 1 and not options:
            return getattr(arguments[0], KNOWN_WITHOUT_VALUES[function])
        arguments, options = FUNCTIONS["exported"]((arguments, options))
        return function(*arguments, **options)

    def __array_namespace__(self, /, *, api_version: str | None = None) -> ModuleType:
        if api_version not in (None, "2021.12", "2022.12", "2023.12", "2024.12"):
            raise VersionError(f"array API version {api_version!r} is not offered: this is 2024.12")
        return sys.modules[__name__.partition(".")[0]]

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
    ) -> Any:
        return FUNCTIONS["to_dlpack"](self, max_version, dl_device, copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def to_device(self, device: Placement | str, /, *, stream: Any = None) -> Tensor:
        """The same value on another placement; "cpu" is the one it has."""
        return self if device == "cpu" else self.to_global(FUNCTIONS["located"](device, None))

    def __reduce__(self) -> tuple[Any, ...]:
        return FUNCTIONS["reduced"](self)  # type: ignore[no-any-return]

    def __copy__(self) -> Self:
        return FUNCTIONS["copied"](self, False)  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: Any) -> Self:
        return FUNCTIONS["copied"](self, True)  # type: ignore[no-any-return]

    # functions as methods

    def sum(self, axis: int | Sequence[int] | None = None, *, keepdims: bool = False) -> Tensor:
        """`fc.sum` of self."""
        return self._call("sum", axis=axis, keepdims=keepdims)

    def mean(self, axis: int | Sequence[int] | None = None, *, keepdims: bool = False) -> Tensor:
        """`fc.mean` of self."""
        return self._call("mean", axis=axis, keepdims=keepdims)

    def max(self, axis: int | Sequence[int] | None = None, *, keepdims: bool = False) -> Tensor:
        """`fc.max` of self."""
        return self._call("max", axis=axis, keepdims=keepdims)

    def min(self, axis: int | Sequence[int] | None = None, *, keepdims: bool = False) -> Tensor:
        """`fc.min` of self."""
        return self._call("min", axis=axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None) -> Tensor:
        """`fc.argmax` of self."""
        return self._call("argmax", axis=axis)

    def reshape(self, *shape: Any) -> Tensor:
        """`fc.reshape` of self; the lengths may be given one by one."""
        return self._call("reshape", shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)

    @property
    def T(self) -> Tensor:
        """A matrix transposed."""
        if self.ndim != 2:
            raise ShapeError(f".T needs 2 dimensions but the shape is {self.shape}: use .mT or permute_dims")
        return self.mT

    @property
    def mT(self) -> Tensor:
        """The last two dimensions swapped."""
        if self.ndim < 2:
            raise ShapeError(f".mT needs at least 2 dimensions but the shape is {self.shape}")
        return self._call("permute_dims", (*range(self.ndim - 2), self.ndim - 1, self.ndim - 2))

    def __repr__(self) -> str:
        sbp = "?" if self._value.sbp is None else sbp_text(self._value.sbp)
        where = f"{self.placement}:{sbp}"
        if self.trace is not None:
            return f"Tensor(%{self.number}, shape={self.shape}, dtype={self.dtype}, {where})"
        if self.block is None:
            return f"Tensor(no block on rank {current().rank}, shape={self.shape}, dtype={self.dtype}, {where})"
        # printing must not communicate: a tensor printed on one rank only would hang
        held = "" if self.block.shape == self.shape else " of this rank"
        shown = np.array2string(self.block, threshold=8, edgeitems=2, prefix="Tensor(")
        return f"Tensor({shown}{held}, shape={self.shape}, dtype={self.dtype}, {where})"
