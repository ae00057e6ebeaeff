"""The errors of communication: what a rank learns when its peers do something else, fail, or fall silent."""

from __future__ import annotations

from copy import copy

from flowcore.placement.errors import FlowcoreError


class CommError(FlowcoreError, RuntimeError):
    """A transfer between ranks cannot be done; the text names the rank, the peer and the operation.

    `failed_rank`: the rank whose failure caused this error, None where no rank failed; `failed_text`: its exception.
    """

    failed_rank: int | None = None
    failed_text: str = ""


class DivergenceError(CommError):
    """Ranks that must do the same thing together do different things, or one of them does no more."""


class HangError(CommError):
    """Peers have not arrived within the time allowed."""


def is_torn(error: BaseException) -> bool:
    """Whether it is raised because ranks cannot go on together, be it as the error that stopped one of them."""
    return isinstance(error, CommError) or isinstance(error.__cause__, CommError)


def told(error: FlowcoreError, rank: int) -> FlowcoreError:
    """`error`, which `rank` met, as its peers raise it."""
    found = copy(error)
    found.told_by = rank
    if error.told_by is None:
        found.__notes__ = [*getattr(error, "__notes__", ()), f"on rank {rank}, which told the others"]
    return found
