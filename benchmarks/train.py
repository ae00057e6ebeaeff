"""Training steps of flowcore and of every rival that is installed: same weights, same losses, interleaved rounds.

    python benchmarks/train.py                                 all models; writes docs/train.md and docs/train.png
    python benchmarks/train.py --models mlp --rounds 5         one; writes nothing
    python benchmarks/train.py --rivals /path/to/python        rivals live in another environment

Every process is one contender on one model; rounds take turns, so that what slows the machine slows all. The figures
are medians over the rounds of each process's median step. A ratio above 1: flowcore is faster on as many cores.
"busy" is processor time of the process that used the most: on a machine that others use, compare that.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import train_report

HERE = Path(__file__).resolve().parent
TOLERANCE = 2e-3
LOOSE = 2e-2
"""The relative difference of losses that is allowed, and that with 16-bit arithmetic."""
STEPS = {"mlp": 20, "gpt": 6, "resnet": 10, "wide_deep": 20, "tiny": 2000}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
CACHE = "HOME"
COLD = ("mlp", "gpt")
"""The models whose first step is timed with an empty kernel cache and with a full one."""


@dataclass(frozen=True)
class Contender:
    """A way to train: who, on how many processes of how many threads; `models`: which ones, if not all."""

    name: str
    ranks: int
    threads: int
    models: tuple[str, ...] = field(default=tuple(STEPS), compare=False)

    @property
    def cores(self) -> int:
        """The cores it uses."""
        return self.ranks * self.threads

    def __str__(self) -> str:
        return f"{self.name}, {self.ranks} x {self.threads}"


LARGE = tuple(model for model in STEPS if model != "tiny")
HALF = ("mlp", "gpt")
IMAGES = ("resnet",)
ALL = (
    Contender("flowcore", 1, 1),
    Contender("torch", 1, 1),
    Contender("torch.compile", 1, 1),
    Contender("jax", 1, 1),
    Contender("torch channels-last", 1, 1, IMAGES),
    Contender("flowcore", 2, 1, LARGE),
    Contender("torch", 1, 2, LARGE),
    Contender("torch.compile", 1, 2, LARGE),
    Contender("jax", 1, 2, LARGE),
    Contender("torch channels-last", 1, 2, IMAGES),
    Contender("torch DDP", 2, 1, LARGE),
    Contender("torch FSDP2", 2, 1, HALF),
    Contender("torch tensor parallel", 2, 1, HALF),
    Contender("jax", 2, 1, LARGE),
    Contender("flowcore bf16", 2, 1, HALF),
    Contender("torch bf16", 1, 2, HALF),
)


def run(contender: Contender, model: str, rivals: str, steps: int, cache: str | None = None) -> dict[str, Any]:
    """What the first process of one round measured, with the memory of all; `cache`: where kernels are kept."""
    environment = dict(os.environ) | {name: str(contender.threads) for name in THREAD_VARIABLES}
    environment |= {CACHE: cache} if cache else {}
    with TemporaryDirectory() as folder:
        sizes = map(str, (steps, contender.threads, contender.ranks))
        script = [str(HERE / "contenders.py"), contender.name, model, *sizes, folder]
        if contender.name.startswith("flowcore"):
            environment["PYTHONPATH"] = str(HERE.parent)
            launch = ["-m", "flowcore.launch", "run", "-n", str(contender.ranks)] if contender.ranks > 1 else []
            wait([start([sys.executable, *launch, *script], environment)])
        else:
            ports = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(contender.ranks)}
            ranks = ({**environment, **ports, "RANK": str(rank)} for rank in range(contender.ranks))
            wait([start([rivals, *script], rank) for rank in ranks])
        found = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]
    if len(found) != contender.ranks:
        raise SystemExit(f"{contender} on {model}: {len(found)} of {contender.ranks} processes gave a result")
    most = {name: max(each[name] for each in found) for name in ("busy", "peak")}
    return {**found[0], **most, "share": sum(each["share"] for each in found)}


def free_port() -> int:
    """A port that nobody listens on: that of the round before may not be free yet."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    """A process whose output is read."""
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait(processes: list[subprocess.Popen[str]]) -> None:
    """Until all have ended; SystemExit with what they printed where one failed."""
    outputs = [process.communicate()[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        if process.returncode:
            command = " ".join(map(str, process.args))  # type: ignore[arg-type]  # they are given as a list
            raise SystemExit(f"{command} ended with {process.returncode}:\n{output[-3000:]}")


def installed(rivals: str) -> set[str]:
    """The frameworks that can be imported."""
    code = "import importlib.util as u; print(*[n for n in ('torch', 'jax') if u.find_spec(n)])"
    found = subprocess.run([rivals, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return {*found, "flowcore"}


def measure(model: str, contenders: Iterable[Contender], rivals: str, rounds: int, steps: int) -> train_report.Table:
    """The medians of all rounds of a model, by contender, whose losses are all the same."""
    found: dict[Contender, list[dict[str, Any]]] = {contender: [] for contender in contenders}
    for _ in range(rounds):
        for contender, results in found.items():
            results.append(run(contender, model, rivals, steps))
    # torch normalizes the images of a process, not the batch, so there its losses are others
    check({c: results for c, results in found.items() if (model, c.name) != ("resnet", "torch DDP")})
    names = ("seconds", "busy", "first", "peak", "share")
    medians = {c: {name: median(result[name] for result in results) for name in names} for c, results in found.items()}
    return train_report.Table(model, [(c.name, c.ranks, c.threads, medians[c]) for c in found])


def check(found: Mapping[Contender, list[dict[str, Any]]]) -> None:
    """SystemExit where somebody's losses are not those of the first contender."""
    wanted = next(iter(found.values()))[0]["losses"]
    for contender, results in found.items():
        allowed = LOOSE if contender.name.endswith("bf16") else TOLERANCE
        for result in results:
            pairs = zip(result["losses"], wanted, strict=True)
            if not all(abs(mine - other) <= allowed * abs(other) for mine, other in pairs):
                raise SystemExit(f"{contender} trains something else: {result['losses']}, not {wanted}")


def cold_start(model: str, ranks: int) -> tuple[float, float]:
    """Seconds from before the import to the first loss with an empty kernel cache, and with the full one."""
    contender = Contender("flowcore", ranks, 1)
    with TemporaryDirectory() as cache:
        first, second = (run(contender, model, sys.executable, 1, cache)["first"] for _ in range(2))
    return first, second


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--only", nargs="+", help="contenders by name (default: all that are installed)")
    parser.add_argument("--cores", nargs="+", type=int, default=[1, 2], help="how many cores to use")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="steps of a process (default: by model)")
    parser.add_argument("--rivals", default=sys.executable, help="the Python in which rivals are installed")
    parser.add_argument("--no-cold-start", action="store_true", help="do not time the first step without a cache")
    options = parser.parse_args()
    frameworks = installed(options.rivals)
    chosen = [
        contender
        for contender in ALL
        if contender.name.split()[0].partition(".")[0] in frameworks
        and contender.cores in options.cores
        and (not options.only or contender.name in options.only)
    ]
    head = train_report.head(options.rivals, sorted(frameworks - {"flowcore"}), options.rounds)
    print(head, flush=True)
    tables = []
    for model in options.models:
        usable = [contender for contender in chosen if model in contender.models]
        tables.append(measure(model, usable, options.rivals, options.rounds, options.steps or STEPS[model]))
        print(tables[-1], flush=True)
    colds = (
        []
        if options.no_cold_start
        else [(m, n, *cold_start(m, n)) for m in COLD if m in options.models for n in (1, 2)]
    )
    end = train_report.end(tables, colds)
    print(end)
    if options.models == list(STEPS) and not options.only and options.cores == [1, 2]:
        train_report.write(HERE.parent / "docs", head, tables, end)


if __name__ == "__main__":
    main()
