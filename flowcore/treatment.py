"""What a compiled function does with the gradients of `backward`: scales the loss, compresses what crosses ranks."""

from __future__ import annotations

from flowcore.compression import Compression, Compressor
from flowcore.errors import GradError
from flowcore.grad import no_grad
from flowcore.mixed import LossScale, Precision
from flowcore.tensor import Tensor


class Treatment:
    """The options, and the state that outlives a step; None: is left out."""

    def __init__(self, precision: Precision | None, compression: Compression | None) -> None:
        self.scaling = LossScale(precision) if precision is not None and precision.is_scaled else None
        self.compressor = None if compression is None else Compressor(compression)
        self.is_bypassed = False
        """Whether the trace at hand differentiates without `backward`, and nothing by it so far."""

    def open(self) -> None:
        """At the start of a trace."""
        self.is_bypassed = False
        if self.scaling is not None:
            self.scaling.open()
        if self.compressor is not None:
            self.compressor.is_used = False

    def bypass(self) -> None:
        """Note that the trace takes gradients which are not those of `backward`."""
        self.is_bypassed = True

    def seed(self, cotangent: Tensor) -> Tensor:
        """What `backward` begins with."""
        return cotangent if self.scaling is None else self.scaling.seed(cotangent)

    def gradient(self, leaf: Tensor, found: Tensor) -> Tensor:
        """The gradient of `leaf` as it is stored."""
        if self.scaling is not None:
            found = self.scaling.unscaled(found)
        if self.compressor is not None:
            found = self.compressor.compressed(leaf, found)
        if self.scaling is not None:
            self.scaling.note(found)
        return found

    def close(self) -> None:
        """At the end of a trace; GradError where it takes gradients, and none that `compress` is about."""
        if self.is_bypassed and self.compressor is not None and not self.compressor.is_used:
            raise GradError(
                f"{self.compressor.options.reason} is about the gradients of backward(), but the function takes its "
                f"gradients by fc.grad or a relative: call backward() of the loss in it, or leave compress out"
            )
        if self.scaling is not None:
            with no_grad():
                self.scaling.close()

    def ran(self) -> bool:
        """Note that a step has run; whether the next one is the first whose gradients are compressed."""
        if self.compressor is None:
            return False
        self.compressor.steps += 1
        return self.compressor.steps == self.compressor.options.warmup
