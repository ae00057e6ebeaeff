"""Every error a caller may catch; the text of each gives the value, the rule and the remedy."""

import numpy as np

from flowcore.comm.errors import CommError, DivergenceError, HangError
from flowcore.placement.errors import FlowcoreError, PlacementError

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "CommError",
    "CopyError",
    "DTypeError",
    "DivergenceError",
    "FlowcoreError",
    "GradError",
    "GraphError",
    "HangError",
    "IndexingError",
    "LinAlgError",
    "MemoryLimitError",
    "PlacementError",
    "PlanError",
    "ShapeError",
    "TraceError",
    "VersionError",
]


class ShapeError(FlowcoreError, ValueError):
    """Shapes, axes or lengths do not fit an operator."""


class IndexingError(ShapeError, IndexError):
    """An index or an axis names what a tensor does not have, or does not fit its shape."""


class DTypeError(FlowcoreError, TypeError):
    """A dtype or the type of an argument does not fit an operator."""


class ArgumentError(FlowcoreError, ValueError):
    """An argument is of the right type and out of its range."""


class CopyError(FlowcoreError, ValueError, BufferError):
    """Data would have to be copied or moved, and the caller asked for none of it; also the BufferError of DLPack."""


class LinAlgError(FlowcoreError, np.linalg.LinAlgError):
    """A matrix has no such factor or inverse; also numpy's error of that name, and a ValueError."""


class GraphError(FlowcoreError):
    """A graph breaks a rule of its form; a defect of flowcore or of a hand-written graph."""


class TraceError(FlowcoreError, RuntimeError):
    """A traced function asks for something only known when it runs, such as the value of a tensor."""


class GradError(FlowcoreError, RuntimeError):
    """A gradient was asked for that does not exist."""


class PlanError(FlowcoreError):
    """No plan obeys the constraints."""


class MemoryLimitError(PlanError):
    """No plan fits the memory limit."""


class CheckpointError(FlowcoreError):
    """A saved state does not fit what it is loaded into."""


class VersionError(FlowcoreError, ValueError):
    """A version of an interface is asked for that is not offered."""
