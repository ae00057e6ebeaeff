"""What `train.py` measured → tables, whether the targets are met, and docs/train.md with its plot."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

Row = tuple[str, int, int, dict[str, float]]
"""Who, ranks, threads of each, and what was measured."""
ONE_PROCESS = ("torch", "torch channels-last", "torch.compile", "jax")
TARGETS: dict[str, tuple[int, dict[tuple[str, ...], float]]] = {
    "mlp": (2, {ONE_PROCESS: 1.05, ("torch DDP",): 1.6, ("torch FSDP2",): 3, ("torch tensor parallel",): 1.15}),
    "gpt": (2, {ONE_PROCESS: 1.25, ("torch DDP",): 1.4, ("torch FSDP2",): 1.4, ("torch tensor parallel",): 2}),
    "resnet": (2, {ONE_PROCESS: 1.0, ("torch DDP",): 1.4}),
    "wide_deep": (2, {ONE_PROCESS: 1.25, ("torch DDP",): 2.5}),
    "tiny": (1, {ONE_PROCESS: 2.5}),
}
"""By model: on how many cores, and how many times faster than the fastest of some contenders it is meant to be."""
HALF_TARGET = 1.0
COLD_TARGETS = 20.0, 4.0


@dataclass(frozen=True)
class Table:
    """The medians of one model."""

    model: str
    rows: Sequence[Row]

    def ours(self, cores: int, name: str = "flowcore") -> float | None:
        """Our step on so many cores: with the most processes, as these are what we use cores by."""
        found = [
            (ranks, row["seconds"]) for n, ranks, threads, row in self.rows if (n, ranks * threads) == (name, cores)
        ]
        return max(found)[1] if found else None

    def fastest(self, names: Iterable[str], cores: int) -> tuple[float, str] | None:
        """The fastest step of these contenders on so many cores, and whose it is."""
        wanted = set(names)
        found = [
            (row["seconds"], n) for n, ranks, threads, row in self.rows if n in wanted and ranks * threads == cores
        ]
        return min(found, default=None)

    def __str__(self) -> str:
        lines = [
            f"## {self.model}",
            "",
            "| contender | ranks × threads | ms | ÷ flowcore | busy, ms | first loss, s | peak of a rank, MiB "
            "| all, MiB |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for name, ranks, threads, row in self.rows:
            ours = self.ours(ranks * threads)
            ratio = f"{row['seconds'] / ours:.2f}" if ours else ""
            lines.append(
                f"| {name} | {ranks} × {threads} | {row['seconds'] * 1e3:.3f} | {ratio} | {row['busy'] * 1e3:.3f} | "
                f"{row['first']:.1f} | {row['peak'] / 2**20:.0f} | {row['share'] / 2**20:.0f} |"
            )
        return "\n".join([*lines, ""])

    def verdict(self) -> list[str]:
        """One line for each target."""
        if self.model not in TARGETS:
            return []
        cores, wanted = TARGETS[self.model]
        pairs = [(self.ours(cores), self.fastest(names, cores), least) for names, least in wanted.items()]
        pairs.append((self.ours(cores, "flowcore bf16"), self.fastest(["torch bf16"], cores), HALF_TARGET))
        return [
            f"- {self.model}, {cores} core{'s' * (cores > 1)}: {rival[0] / ours:.2f} × {rival[1]} "
            f"(target {least:g}): {'met' if rival[0] / ours >= least else 'missed'}"
            for ours, rival, least in pairs
            if ours and rival
        ]


def versions(python: str, names: Sequence[str]) -> str:
    """The versions of `names` in another environment."""
    code = "import sys; from importlib.metadata import version; print(*(f'{n} {version(n)}' for n in sys.argv[1:]))"
    return subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True).stdout.strip()


def head(rivals: str, names: Sequence[str], rounds: int) -> str:
    """What was run, when, where and on what."""
    ours = ", ".join(f"{name} {metadata.version(name)}" for name in ("flowcore", "numpy", "numba") if find_spec(name))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        "# Training steps beside those of other frameworks\n\n"
        f"`python benchmarks/train.py` on {date.today().isoformat()}, {cores} cores, {platform.system()} "
        f"{platform.release()}, {platform.machine()}, Python {platform.python_version()}; {ours}; "
        f"{versions(rivals, names)}. Load average before: {os.getloadavg()[0]:.1f}.\n\n"
        "Same initial weights and batches for all, and the same losses (checked). Medians of "
        f"{rounds} interleaved rounds. *÷ flowcore*: how many times longer than flowcore on as many cores. *busy*: "
        "processor time. *peak of a rank*: the most memory that was resident. *all*: of all ranks at the end, pages "
        "that several share counted once.\n"
    )


def end(tables: Sequence[Table], colds: Sequence[tuple[str, int, float, float]]) -> str:
    """The first step without and with compiled kernels, and the targets."""
    lines = []
    if colds:
        empty, full = COLD_TARGETS
        lines += [
            "## From start to the first loss",
            "",
            f"| model | ranks | kernels compiled, s (target {empty:g}) | kernels from the cache, s (target {full:g}) |",
            "|---|---|---|---|",
            *(f"| {model} | {ranks} | {first:.1f} | {second:.1f} |" for model, ranks, first, second in colds),
            "",
        ]
    lines += ["## Against the targets", "", *(line for table in tables for line in table.verdict()), ""]
    return "\n".join(lines)


def write(folder: Path, top: str, tables: Sequence[Table], bottom: str) -> None:
    """docs/train.md, and docs/train.png where matplotlib is installed."""
    folder.mkdir(exist_ok=True)
    picture = ["![steps by model](train.png)", ""] if plot(folder / "train.png", tables) else []
    (folder / "train.md").write_text("\n".join([top, *map(str, tables), bottom, *picture]))


def plot(path: Path, tables: Sequence[Table]) -> bool:
    """One panel of bars for each model; whether it could be drawn."""
    if not find_spec("matplotlib"):
        print("no plot: matplotlib is not installed (the extra `bench`)", file=sys.stderr)
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(tables), figsize=(5 * len(tables), 5), squeeze=False)
    for panel, table in zip(panels[0], tables, strict=True):
        names = [f"{name}, {ranks}×{threads}" for name, ranks, threads, _ in table.rows]
        colours = ["tab:orange" if name.startswith("flowcore") else "tab:gray" for name in names]
        panel.barh(names, [row["seconds"] * 1e3 for *_, row in table.rows], color=colours)
        panel.invert_yaxis()
        panel.set_title(table.model)
        panel.set_xlabel("ms a step")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    return True
