"""What a compiled function does with the gradients of `backward`: scales the loss, compresses what crosses ranks."""

from __future__ import annotations

from flowcore.compression import Compression, Compressor
from flowcore.grad import no_grad
from flowcore.mixed import LossScale, Precision
from flowcore.tensor import Tensor


class Treatment:
    """The options, and the state that outlives a step; None: is left out."""

    def __init__(self, precision: Precision | None, compression: Compression | None) -> None:
        self.scaling = LossScale(precision) if precision is not None and precision.is_scaled else None
        self.compressor = None if compression is None else Compressor(compression)

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
        """At the end of a trace."""
        if self.scaling is not None:
            with no_grad():
                self.scaling.close()

    def ran(self) -> bool:
        """Note that a step has run; whether the next one is the first whose gradients are compressed."""
        if self.compressor is None:
            return False
        self.compressor.steps += 1
        return self.compressor.steps == self.compressor.options.warmup
