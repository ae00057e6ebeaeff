"""What Python calls for the operators of a rank that move data or meet others: an operator → a call on its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowcore.assembly import Call
from flowcore.comm.execute import execute
from flowcore.comm.stages import UnderWay, execute_into
from flowcore.comm.transport import Opens, Transport
from flowcore.local import Move, Staged
from flowcore.meeting_op import Post, Wait
from flowcore.op import Array
from flowcore.sharing import Sharing


def post_call(op: Post) -> Call:
    """Tell the ranks it meets that this one has come so far."""
    ranks, digest = op.ranks, op.digest

    def call(transport: Opens, *shown: Array) -> None:
        transport.post(ranks, digest)

    return call


def wait_call(op: Wait, sharing: Sharing) -> Call:
    """What they show, once they have come so far."""
    ranks, digest = op.ranks, op.digest
    views = tuple(sharing.view(view) for view in op.views)
    results = views[0] if len(views) == 1 else views

    def call(transport: Opens) -> Any:
        transport.wait(ranks, digest)
        return results

    return call


def nudge(transport: Transport) -> None:
    """Help messages that are under way on."""
    transport.nudge()


def stage_call(op: Staged, transfer: UnderWay, memory: Sequence[Array | None]) -> Call:
    """A stage of `transfer`, its results in `memory`."""
    number, stage = op.number, op.stage
    makes = stage.target == "makes"
    staging = memory[-1] if stage.staging else None

    def call(transport: Transport, *given: Array) -> Any:
        held = iter(given)
        block = next(held) if stage.takes_source else None
        target = next(held) if stage.target == "takes" else memory[0] if makes else None
        transfer.run(number, transport, block, target, staging)
        results = [each for each in ((target if makes or op.is_last else None), staging) if each is not None]
        return results[0] if len(results) == 1 else results

    return call


def move_call(move: Move, memory: Sequence[Array | None]) -> Call:
    """The block of the target from that of the source, in `memory` and with what follows it there, where that is."""
    plan = move.plan
    target, staging = (memory[0], memory[1:]) if move.result is not None else (None, memory)
    has_memory = bool(memory) and memory[0] is not None

    def call(transport: Transport, block: Array | None = None) -> Array | None:
        if has_memory:
            return execute_into(plan, transport, block, target, staging)
        return execute(plan, transport, block)

    return call
