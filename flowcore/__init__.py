"""flowcore: distributed training in which a tensor is logical and data movement is an operator."""

from flowcore import _checkout as _checkout
