"""Where the time of a training step goes, by operator, on one rank of flowcore.

    python benchmarks/train_profile.py mlp
    python benchmarks/train_profile.py gpt --steps 5 --top 20
    flowcore run -n 2 benchmarks/train_profile.py mlp --precision bf16

The figures are processor time of this rank's thread: what other processes take of the machine is not in them, nor is
waiting for other ranks. Equal operators on equal shapes share a line, with the GFLOP/s and GB/s of their operands and
results. Compiled kernels run one by one here, not in stretches.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import in_flowcore
import workloads

import flowcore as fc
from flowcore import stretch
from flowcore.assembly import Instruction
from flowcore.graph import Graph
from flowcore.runtime import Program
from flowcore.stretch import Joined, Joiner, Stretch

WARM = 3


@dataclass
class Profile:
    """Seconds and calls by operator and shapes."""

    seconds: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    flops: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)

    def timed(self, program: Program, instruction: Instruction, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, counted."""
        return self.counted(self.name(program.local, instruction), call)

    def name(self, graph: Graph, instruction: Instruction) -> str:
        """The operator and what it is applied to."""
        assert instruction.node is not None
        op, types = instruction.node.op, graph.types(instruction.inputs)
        name = f"{op.text()} of {' '.join(map(str, types))}"
        every = (*types, *graph.types(instruction.outputs))
        self.flops[name], self.bytes[name] = op.flops(*types), sum(type.nbytes for type in every)
        return name

    def counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, counted under `name`."""

        def counted(*blocks: Any) -> Any:
            began = time.thread_time()
            found = call(*blocks)
            self.seconds[name] += time.thread_time() - began
            self.calls[name] += 1
            return found

        return counted

    def clear(self) -> None:
        """Forget what was counted."""
        self.seconds.clear()
        self.calls.clear()


def watch(profile: Profile) -> None:
    """Count every call that compiled programs make from here on."""
    plain = Program.call

    def call(program: Program, instruction: Instruction) -> Callable[..., Any]:
        made = plain(program, instruction)
        return profile.timed(program, instruction, made) if program.is_compiled else made

    def one_by_one(pairs: Iterable[Any], key: Callable[[Any], bool]) -> Iterator[tuple[bool, list[Any]]]:
        return ((key(pair), [pair]) for pair in pairs)

    run = Joiner.run

    def joined(joiner: Joiner, instructions: Sequence[Instruction]) -> Joined:
        found = run(joiner, instructions)
        calls = [
            profile.counted(profile.name(joiner.graph, call.rows[0].instruction), call)
            if isinstance(call, Stretch)
            else call
            for call in found.calls
        ]
        return replace(found, calls=tuple(calls))

    Program.call = call  # type: ignore[method-assign]  # a program asks for each of its calls once
    stretch.groupby = one_by_one  # type: ignore[attr-defined]  # so that every kernel is a stretch of its own
    Joiner.run = joined  # type: ignore[method-assign]  # as above


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=list(workloads.WORKLOADS))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--top", type=int, default=30, help="lines of the table")
    parser.add_argument("--precision", choices=("bf16", "fp16"), help="mixed precision")
    options = parser.parse_args()
    profile = Profile()
    watch(profile)
    step, rank = in_flowcore.train(workloads.WORKLOADS[options.model], fc.world_size(), options.precision)
    for number in range(WARM):
        step(number)
    profile.clear()
    began = time.thread_time()
    for number in range(options.steps):
        step(number % workloads.BATCHES)
    whole = (time.thread_time() - began) / options.steps * 1e3
    if rank:
        return
    counted = profile.seconds.total() / options.steps * 1e3
    calls = profile.calls.total() // options.steps
    print(f"{options.model}: {whole:.3f} ms a step, {counted:.3f} ms of it in {calls} calls")
    for name, seconds in profile.seconds.most_common(options.top):
        rates = (profile.calls[name] * total[name] / seconds / 1e9 for total in (profile.flops, profile.bytes))
        shown = "".join(f"{rate:7.1f}" for rate in rates)
        print(f"{seconds / options.steps * 1e3:9.3f} ms{shown} {profile.calls[name] // options.steps:4} x {name:.160}")


if __name__ == "__main__":
    main()
