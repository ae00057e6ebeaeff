"""A program as one Python function: a call a line, registers as its local variables.

    def run(transport, blocks):
        (r0, r1, _,) = blocks
        r3 = c0(r0, r1); r0 = None
        r4, r5 = c1(transport, r3); r3 = None
        return [r4, None, r5]

Looking calls and registers up in lists would cost as a small kernel does. Programs of one form share code.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import CodeType
from typing import Any

from flowcore.graph import Node
from flowcore.op import Array

Call = Callable[..., Any]
Run = Callable[[Any, Sequence[Array | None]], list[Array | None]]
HEAD = 5
"""The lines of the text before the first instruction."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a node (None: more than one) does to registers.

    dead: what nothing reads after it. moves: it takes the transport. scratch: registers for nothing but this.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    dead: tuple[int, ...]
    moves: bool
    node: Node | None
    scratch: tuple[int, ...] = ()


def mortal(instructions: Sequence[Instruction], kept: Collection[int]) -> tuple[Instruction, ...]:
    """`instructions`, each with the registers that nothing reads after it; those `kept` live to the end."""
    last: dict[int, int] = {}
    for position, instruction in enumerate(instructions):
        last.update((number, position) for number in (*instruction.inputs, *instruction.outputs))
    ends: dict[int, list[int]] = {}
    for number, position in last.items():
        if number not in kept:
            ends.setdefault(position, []).append(number)
    return tuple(replace(each, dead=tuple(ends.get(position, ()))) for position, each in enumerate(instructions))


def assemble(
    instructions: Sequence[Instruction],
    calls: Sequence[Call | None],
    inputs: Sequence[int | None],
    outputs: Sequence[int | None],
    constants: Mapping[int, Array],
) -> Run:
    """The function from the blocks of the inputs to those of the outputs, making one call per instruction.

    Where an instruction has no call, its result is its input.
    """
    pairs = zip(instructions, calls, strict=True)
    lines = [
        "def make(calls, constants):",
        f"    ({_names('c', range(len(calls)))}) = calls",
        f"    ({_names('r', constants)}) = constants",
        "    def run(transport, blocks):",
        f"        ({''.join('_, ' if number is None else f'r{number}, ' for number in inputs)}) = blocks",
        *(_line(instruction, call and f"c{place}") for place, (instruction, call) in enumerate(pairs)),
        f"        return [{', '.join('None' if number is None else f'r{number}' for number in outputs)}]",
        "    return run",
    ]
    return _made("\n".join(lines))(calls, constants.values())  # type: ignore[no-any-return]  # code from text


def _names(letter: str, numbers: Sequence[int] | Mapping[int, Array] | range) -> str:
    return "".join(f"{letter}{number}, " for number in numbers)


def _line(instruction: Instruction, call: str | None) -> str:
    arguments = ", ".join(["transport"] * instruction.moves + [f"r{number}" for number in instruction.inputs])
    results = "".join(f"r{number}, " for number in instruction.outputs)[:-2]
    ends = "".join(f"; r{number} = None" for number in instruction.dead)
    return f"        {results}{' = ' * bool(results)}{f'{call}({arguments})' if call else arguments}{ends}"


@lru_cache(maxsize=4096)
def _made(text: str) -> Call:
    scope: dict[str, Call] = {}
    exec(compile(text, "<program>", "exec"), scope)
    return scope["make"]


def failing(run: Run, error: BaseException) -> int:
    """The position of the instruction in which `run` raised `error`, -1 if it is none."""
    code: CodeType = run.__code__
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code is not code:
        trace = trace.tb_next
    return -1 if trace is None else trace.tb_lineno - HEAD - 1
