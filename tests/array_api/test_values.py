"""Every function of the standard against numpy: dtypes, shapes and special values, on every kind of placement.

One world of threads per placement runs all cases; the ranks must agree, and the tally says what was compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import pytest

import flowcore as fc
from tests.array_api.names import EXTENSIONS, FUNCTIONS, name_of
from tests.array_api.rows_arrays import ARRANGED, CREATION, FOUND, PRODUCTS, REDUCED
from tests.array_api.rows_elementwise import ELEMENTWISE
from tests.array_api.rows_fft import FFT
from tests.array_api.rows_linalg import LINALG
from tests.array_api.table import DTYPES, REFERENCE, Row, Shape, operands

ROWS: tuple[Row, ...] = (*ELEMENTWISE, *CREATION, *ARRANGED, *FOUND, *REDUCED, *PRODUCTS, *LINALG, *FFT)
ELSEWHERE = {
    "__array_namespace_info__": "test_inspection", "broadcast_shapes": "test_inspection", "can_cast": "test_inspection",
    "finfo": "test_inspection", "iinfo": "test_inspection", "isdtype": "test_inspection",
    "result_type": "test_inspection", "from_dlpack": "test_interop",
}  # fmt: skip
"""Functions whose results are no tensors, and the modules that test them."""
TOLERANCE = {"float16": 2e-2, "float32": 2e-5, "complex64": 2e-5, "float64": 1e-11, "complex128": 1e-11}
PLACEMENTS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "one rank": (1, ("B",)),
    "three ranks": (3, ("S0", "S1", "S2")),
    "two by two": ([[0, 1], [2, 3]], ("P,S0", "S0,P", "S1,S0", "P,B")),
}
TURNS = {"three ranks": 3, "two by two": 2}
"""How many of a row's combinations of expression, dtype and layout are compared on each of its shapes."""


@dataclass(frozen=True)
class Case:
    """One expression on operands of one dtype and these shapes, laid out alike."""

    row: Row
    call: str
    shapes: tuple[Shape, ...]
    dtype: str
    sbp: str

    def arrays(self) -> list[Any]:
        """The whole operands."""
        return operands(self.row, self.shapes, self.dtype, np.random.default_rng(crc32(str(self).encode())))

    def run(self, xp: Any, values: list[Any]) -> Any:
        """The value of the expression over namespace `xp`."""
        scope = dict(zip("xyz", values, strict=False)) | {"xp": xp}
        text = self.call if self.call.startswith(("xp.", "(", "x.", "x ", "y ", "2 ", "3 ")) else f"xp.{self.call}"
        return eval(text, scope)

    def __str__(self) -> str:
        return f"{self.call} of {self.dtype}{list(self.shapes)} {self.sbp}"


def cases(name: str) -> Iterator[Case]:
    """On one rank everything; on several dtypes, expressions and layouts take turns."""
    _, layouts = PLACEMENTS[name]
    for row, number in [(each, number) for each in ROWS for number in range(len(each.shapes))]:
        shapes, dtypes = row.shapes[number], [dtype for kind in row.kinds for dtype in DTYPES[kind]]
        if name == "one rank":
            # an extra to the standard; factors and transforms have no such numbers
            dtypes += ["float16"] if "f" in row.kinds and "." not in row.name else []
            yield from (Case(row, call, shapes, dtype, "B") for dtype in dtypes for call in row.calls)
            continue
        for turn in range(crc32(row.name.encode()) + number, crc32(row.name.encode()) + number + TURNS[name]):
            call, dtype = row.calls[turn % len(row.calls)], dtypes[turn % len(dtypes)]
            yield Case(row, call, shapes, dtype, layouts[turn % len(layouts)])


def laid(array: Any, placement: fc.Placement, sbp: str) -> fc.Tensor:
    """`array` laid out as `sbp` where its dimensions and its dtype allow that, else replicated."""
    parts = []
    for part in sbp.split(","):
        is_split = part.startswith("S") and int(part[1:]) < array.ndim
        is_sum = part == "P" and array.dtype.kind != "b" and bool(np.isfinite(array).all())
        parts.append(part if is_split or is_sum else "B")
    return fc.asarray(array, placement=placement, sbp=",".join(parts))


def difference(found: Any, expected: Any, tolerance: float) -> str:
    """How two arrays differ; empty where they do not."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f"is {found.dtype}{found.shape}, not {expected.dtype}{expected.shape}"
    if found.dtype.kind not in "fc":
        return "" if np.array_equal(found, expected) else f"is {found!r}, not {expected!r}"
    scale = max(1.0, float(np.nanmax(np.abs(expected[np.isfinite(expected)]), initial=0.0)))
    off = tolerance * TOLERANCE[found.dtype.name]
    close = np.allclose(found, expected, rtol=off, atol=off * min(scale, 1e6), equal_nan=True)
    return "" if close else f"is {found!r}, not {expected!r}"


def compare(name: str) -> list[str]:
    """What differs from numpy on the placement of that name, as this rank sees it."""
    placement, wrong = fc.Placement(PLACEMENTS[name][0]), []
    for case in cases(name):
        arrays = case.arrays()
        with np.errstate(all="ignore"):
            expected = np.asarray(case.run(REFERENCE, arrays))
        try:
            with fc.use(placement):
                found = case.run(fc, [laid(array, placement, case.sbp) for array in arrays]).numpy()
        except fc.FlowcoreError as error:
            wrong.append(f"{case}: {type(error).__name__}: {error}")
            continue
        told = difference(found, expected, case.row.tolerance)
        if told:
            wrong.append(f"{case}: {told}")
    return wrong


@pytest.mark.parametrize("name", PLACEMENTS)
def test_functions_agree_with_numpy(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    ranks = fc.Placement(PLACEMENTS[name][0]).size
    told = fc.launch.run(lambda: compare(name), ranks=ranks, transport="threads")
    count = sum(1 for _ in cases(name))
    with capsys.disabled():
        print(f"\n{name}: {len({row.name for row in ROWS})} functions, {count} cases against numpy")
    assert told[0] == [], "\n".join([f"{len(told[0])} of {count} differ", *told[0][:40]])
    assert all(each == told[0] for each in told)


def test_every_function_of_the_standard_is_compared() -> None:
    standard = [name_of(text) for text in (*FUNCTIONS, *EXTENSIONS)]
    covered = {row.name for row in ROWS} | set(ELSEWHERE)
    assert [name for name in standard if name not in covered] == []
