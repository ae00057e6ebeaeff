"""What `comm.py` is meant to show and whether it did: how many times faster than MPI, by operation and size."""

from __future__ import annotations

KIB, MIB = 1 << 10, 1 << 20
TARGETS: dict[int, dict[str, dict[int, float]]] = {
    2: {
        "all-reduce": {KIB: 0.8, 128 * KIB: 3, MIB: 5, 4 * MIB: 10, 16 * MIB: 5, 64 * MIB: 5},
        "reduce-scatter": {MIB: 4, 4 * MIB: 4, 16 * MIB: 4, 64 * MIB: 4},
        "all-gather": dict.fromkeys((KIB, 16 * KIB, 128 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB), 1.0),
        "all-to-all": dict.fromkeys((KIB, 16 * KIB, 128 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB), 1.0),
    },
    4: {"all-reduce": {KIB: 0.4, MIB: 3, 4 * MIB: 3, 16 * MIB: 3, 64 * MIB: 3}},
}
GLOO = 10.0
"""How many times faster than gloo, at every size, on 2 ranks."""


def verdict(times: dict[str, dict[str, dict[str, float]]], ranks: int) -> list[str]:
    """One line for each operation: the sizes at which its target is met, and those at which it is not."""
    lines = []
    for operation, wanted in TARGETS.get(ranks, {}).items():
        for label, least in (("MPI", wanted), ("gloo", dict.fromkeys(map(int, times), GLOO) if ranks == 2 else {})):
            met, missed = [], []
            for size, factor in least.items():
                methods = times.get(str(size), {}).get(operation, {})
                others = [time for name, time in methods.items() if name.startswith(label)]
                if others:
                    reached = min(others) / methods["flowcore"]
                    entry = f"{size // KIB} KiB {reached:.1f}× (≥ {factor:g}×)"
                    (met if reached >= factor else missed).append(entry)
            if met or missed:
                lines.append(
                    f"{ranks} ranks, {operation}, beside {label}: met at {', '.join(met) or 'no size'}; "
                    f"missed at {', '.join(missed) or 'none'}"
                )
    return lines
