"""Training steps of flowcore and of every rival that is installed: same weights, same losses, interleaved rounds.

    python benchmarks/train.py                                 all models
    python benchmarks/train.py --models mlp --rounds 5         one
    python benchmarks/train.py --rivals /path/to/python        rivals live in another environment

Every process is one contender on one model; rounds take turns, so that what slows the machine slows all. The figures
are medians over the rounds of each process's median step. A ratio above 1: flowcore is faster on as many cores.
"busy" is processor time, of the first process where there are two: on a machine that others use, compare that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
TOLERANCE = 2e-3
STEPS = {"mlp": 20, "gpt": 6, "tiny": 2000}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Contender:
    """A way to train: who, on how many processes of how many threads."""

    name: str
    ranks: int
    threads: int

    @property
    def cores(self) -> int:
        return self.ranks * self.threads

    def __str__(self) -> str:
        return f"{self.name}, {self.ranks} x {self.threads}"


ALL = (
    Contender("flowcore", 1, 1),
    Contender("torch", 1, 1),
    Contender("torch.compile", 1, 1),
    Contender("jax", 1, 1),
    Contender("flowcore", 2, 1),
    Contender("torch", 1, 2),
    Contender("torch.compile", 1, 2),
    Contender("torch", 2, 1),
    Contender("jax", 1, 2),
)


def run(contender: Contender, model: str, rivals: str, steps: int) -> dict[str, Any]:
    """One round of `contender`: what its first process prints."""
    environment = dict(os.environ) | {name: str(contender.threads) for name in THREAD_VARIABLES}
    script = [
        str(HERE / "contenders.py"),
        contender.name,
        model,
        *map(str, (steps, contender.threads, contender.ranks)),
    ]
    if contender.name == "flowcore":
        environment["PYTHONPATH"] = str(HERE.parent)
        launch = ["-m", "flowcore.launch", "run", "-n", str(contender.ranks)] if contender.ranks > 1 else []
        return finished([start([sys.executable, *launch, *script], environment)])
    ports = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29533", "WORLD_SIZE": str(contender.ranks)}
    ranks = ({**environment, **ports, "RANK": str(rank)} for rank in range(contender.ranks))
    return finished([start([rivals, *script], rank) for rank in ranks])


def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    """A process whose output is read."""
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(processes: list[subprocess.Popen[str]]) -> dict[str, Any]:
    """The line of JSON that the first of `processes` printed."""
    outputs = [process.communicate() for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{processes[0].args} failed:\n{outputs[0][1][-3000:]}")
    return json.loads(outputs[0][0].strip().splitlines()[-1])  # type: ignore[no-any-return]


def installed(rivals: str) -> set[str]:
    """The contenders that can be imported."""
    code = "import importlib.util as u; print(*[n for n in ('torch', 'jax') if u.find_spec(n)])"
    found = set(subprocess.run([rivals, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    return found | {"flowcore"} | ({"torch.compile"} if "torch" in found else set())


def measure(model: str, contenders: list[Contender], rivals: str, rounds: int, steps: int) -> None:
    """Run all rounds of a model, check that all losses are equal, and print the table."""
    found: dict[Contender, list[dict[str, Any]]] = {contender: [] for contender in contenders}
    for _ in range(rounds):
        for contender, results in found.items():
            results.append(run(contender, model, rivals, steps))
    wanted = found[contenders[0]][0]["losses"]
    for contender, results in found.items():
        for result in results:
            pairs = zip(result["losses"], wanted, strict=True)
            if not all(abs(mine - other) <= TOLERANCE * abs(other) for mine, other in pairs):
                raise SystemExit(f"{contender} trains something else: {result['losses']}, not {wanted}")
    times = {contender: median(result["seconds"] for result in results) for contender, results in found.items()}
    head = f"{'':24}{'ms':>9}{'ratio':>7}{'busy, ms':>10}{'first, s':>10}{'peak, MiB':>11}"
    print(f"\n{model}: median step of {rounds} rounds\n{head}")
    for contender, results in found.items():
        ours = next((times[c] for c in contenders if c.name == "flowcore" and c.cores == contender.cores), None)
        ratio = f"{times[contender] / ours:7.2f}" if ours else f"{'–':>7}"
        busy, first, peak = (median(result[name] for result in results) for name in ("busy", "first", "peak"))
        print(
            f"{contender!s:24}{times[contender] * 1e3:9.3f}{ratio}{busy * 1e3:10.3f}{first:10.1f}{peak / 2**20:11.0f}"
        )


def versions(rivals: str) -> str:
    """The versions of everything compared."""
    code = "import sys; from importlib import metadata as m; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    names = sorted(installed(rivals) & {"torch", "jax"})
    others = subprocess.run([rivals, "-c", code, *names], capture_output=True, text=True, check=True).stdout.strip()
    return f"flowcore {metadata.version('flowcore')}, numpy {metadata.version('numpy')}; {others}"


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--only", nargs="+", help="contenders by name (default: all that are installed)")
    parser.add_argument("--cores", nargs="+", type=int, default=[1, 2], help="how many cores to use")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="steps of a process (default: by model)")
    parser.add_argument("--rivals", default=sys.executable, help="the Python in which rivals are installed")
    options = parser.parse_args()
    names = installed(options.rivals) & set(options.only or [contender.name for contender in ALL])
    chosen = [contender for contender in ALL if contender.name in names and contender.cores in options.cores]
    print(versions(options.rivals))
    for model in options.models:
        usable = [contender for contender in chosen if model != "tiny" or contender.cores == 1]
        measure(model, usable, options.rivals, options.rounds, options.steps or STEPS[model])


if __name__ == "__main__":
    main()
