"""What it costs to move tensors between the ranks of one host: flowcore beside raw MPI, a memory copy and gloo.

    python benchmarks/comm.py            # writes docs/comm.md and docs/comm.png
    python benchmarks/comm.py --quick    # fewer sizes and rounds, prints only

Every rank count is one run under the MPI launcher, in which all methods take turns. torch (for gloo) and matplotlib
(for the plot; the extra `bench`) are used where they are installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from comm_targets import verdict

from flowcore.launch.local import build_command, build_environment, cores, find_launcher

ROOT = Path(__file__).resolve().parent.parent
SIZES = [1 << 10, 16 << 10, 128 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20]
QUICK = [1 << 10, 128 << 10, 4 << 20]
Times = dict[str, dict[str, dict[str, float]]]


def run(ranks: int, sizes: list[int], rounds: int) -> dict[str, Any]:
    """What `comm_ranks.py` measured on `ranks` ranks."""
    launcher = find_launcher()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "times.json"
        words = [sys.executable, str(ROOT / "benchmarks" / "comm_ranks.py"), str(path), str(rounds), *map(str, sizes)]
        environment = build_environment(os.environ, launcher, ranks, 1)
        environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), environment.get("PYTHONPATH", "")))
        subprocess.run(build_command(launcher, ranks, words), env=environment, check=True)
        found: dict[str, Any] = json.loads(path.read_text())
    return found


def best(methods: dict[str, float], name: str) -> float | None:
    """The least time of the methods whose name begins with `name`."""
    return min((time for method, time in methods.items() if method.startswith(name)), default=None)


def size_text(size: int) -> str:
    """1024 → 1 KiB."""
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def table(times: Times, ranks: int) -> list[str]:
    """The lines of a table in Markdown."""
    lines = [
        "| operation | bytes | flowcore | private operands | MPI | gloo | MPI ÷ flowcore | gloo ÷ flowcore |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for operation in next(iter(times.values())):
        for size, found in times.items():
            methods = found[operation]
            if operation == "memory":
                continue
            ours, mpi, gloo = methods["flowcore"], best(methods, "MPI"), best(methods, "gloo")
            lines.append(
                f"| {operation} | {size_text(int(size))} | {ours:.1f} | {methods['flowcore, private operands']:.1f} | "
                f"{shown(mpi)} | {shown(gloo)} | {ratio(mpi, ours)} | {ratio(gloo, ours)} |"
            )
    lines += ["", "| bytes, cut among the ranks | copy | in place a += b | all-reduce at the speed of in place |"]
    lines.append("|---|---|---|---|")
    for size, found in times.items():
        memory, ours = found["memory"], found["all-reduce"]["flowcore"]
        # in place reads two and writes one of S bytes; an all-reduce reads one of each rank and writes one
        share = memory["in place"] * (ranks + 1) / 3 / ours
        lines.append(f"| {size_text(int(size))} | {memory['copy']:.1f} | {memory['in place']:.1f} | {share:.0%} |")
    return lines


def shown(time: float | None) -> str:
    """Microseconds, or nothing."""
    return "" if time is None else f"{time:.1f}"


def ratio(other: float | None, ours: float) -> str:
    """How many times faster than `other`, or nothing."""
    return "" if other is None else f"{other / ours:.2f}"


def versions(library: str) -> str:
    """What was measured with what."""
    found = [f"Python {platform.python_version()}", library.split(",")[0].strip()]
    for package in ("numpy", "mpi4py", "numba", "torch"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def report(results: dict[int, dict[str, Any]], command: str, load: float) -> str:
    """The whole document; `load`: the machine's load average before the run."""
    library = next(iter(results.values()))["mpi"]
    lines = [
        "# Moving tensors between the ranks of one host",
        "",
        f"Microseconds, medians, float32; `{command}` on {date.today().isoformat()}, {cores()} cores, "
        f"{platform.system()} {platform.release()}, {platform.machine()}; {versions(library)}. Load average before: "
        f"{load:.1f}; figures of waiting ranks mean something only where it is far below the number of cores.",
        "",
        "*flowcore* is `x.to_global(…)`, eager, on tensors that lie in shared memory (`fc.share`, or results of other "
        "changes of layout); *private operands* are blocks that must first be copied there. *MPI* is the fastest of "
        "mpi4py's blocking calls on numpy arrays. A size is that of the whole tensor.",
    ]
    for ranks, result in results.items():
        lines += ["", f"## {ranks} ranks", "", *table(result["times"], ranks)]
    targets = [f"- {line}" for ranks, result in results.items() for line in verdict(result["times"], ranks)]
    if targets:
        lines += ["", "## Against the targets", "", *targets]
    lines += ["", "![times by size](comm.png)", ""] if find_spec("matplotlib") else [""]
    return "\n".join(lines)


def plot(results: dict[int, dict[str, Any]], path: Path) -> None:
    """Times by size, one panel for each operation and rank count."""
    if not find_spec("matplotlib"):
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    operations = ("all-reduce", "reduce-scatter", "all-gather", "all-to-all")
    figure, panels = pyplot.subplots(len(results), len(operations), figsize=(16, 4 * len(results)), squeeze=False)
    for row, (ranks, result) in zip(panels, results.items(), strict=True):
        for panel, operation in zip(row, operations, strict=True):
            sizes = np.array([int(size) for size in result["times"]])
            found = [times[operation] for times in result["times"].values()]
            for method in found[0]:
                panel.loglog(sizes, [times[method] for times in found], "o-", label=method)
            panel.set_title(f"{operation}, {ranks} ranks")
            panel.set_xlabel("bytes of the tensor")
            panel.set_ylabel("µs")
            panel.grid(alpha=0.3)
            panel.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Measure, print, and write the document and the plot."""
    parser = argparse.ArgumentParser(description="Measure how fast tensors move between the ranks of this host.")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds; nothing is written")
    parser.add_argument("--rounds", type=int, default=None, help="rounds of which the median counts (15; quick: 5)")
    options = parser.parse_args()
    sizes, rounds = (QUICK, 5) if options.quick else (SIZES, 15)
    load = os.getloadavg()[0]
    results = {ranks: run(ranks, sizes, options.rounds or rounds) for ranks in options.ranks}
    text = report(results, " ".join(["python benchmarks/comm.py", *sys.argv[1:]]), load)
    print(text)
    if not options.quick:
        (ROOT / "docs").mkdir(exist_ok=True)
        (ROOT / "docs" / "comm.md").write_text(text)
        plot(results, ROOT / "docs" / "comm.png")


if __name__ == "__main__":
    main()
