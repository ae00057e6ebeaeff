"""Kernels over the rows of tables that indices name, and the formulas that say what becomes of these rows.

Indices are checked before anything is written; negative ones count from the end of `total` rows, of which the tables
hold those from `first` on. Updates merge the rows of one index by a hash table, in the order in which they stand, and
then make one pass: the sum of the rows of an index, the formulas, the tables. What is linear in the rows takes them one
after the other instead. Rows of a large table lie anywhere, so memory is asked for each of them some rows early.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from flowcore.errors import GraphError
from flowcore.jit.launch import Kernel, Launch

Beside = tuple[int, int]
"""The columns of other arrays in front of rows and behind them."""
TABLES, SCALARS = "abcd", "uvwx"
FUNCTIONS = {"sqrt": np.sqrt}
FUNCTION = re.compile(r"\b(" + "|".join(FUNCTIONS) + r")\(")
WORD, NUMBER = re.compile(r"[A-Za-z_]\w*"), re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?")
FORM = re.compile(r"[\w\s.()*/+-]*")


def check_formula(text: str, tables: int, scalars: int) -> None:
    """GraphError unless `text` is arithmetic of as many tables and scalars, g, numbers and the known functions."""
    known = {*TABLES[:tables], *SCALARS[:scalars], "g", *FUNCTIONS}
    unknown = set(WORD.findall(NUMBER.sub("", text))) - known
    if unknown or not FORM.fullmatch(text):
        raise GraphError(f"formula {text!r}: it is arithmetic of {', '.join(sorted(known))} and numbers")


@lru_cache(maxsize=256)
def formula(text: str) -> Callable[[Mapping[str, Any]], Any]:
    """What a formula that was checked gives for arrays by name."""
    code = compile(text, "<formula>", "eval")
    return lambda known: eval(code, {"__builtins__": {}, **FUNCTIONS}, dict(known))


CHECK = """bad = 0
    for i in range({indices}.shape[0]):
        bad |= ({indices}[i] < -total) | ({indices}[i] >= total)
    if bad:
        return 1
    """
AHEAD = 48
"""How many rows before its turn memory is asked for a row: they lie anywhere, and one takes long to come."""
MANY = 1 << 14
"""Elements of rows from which on a kernel is compiled for their width alone, which it then handles faster."""
PLACE = "{name} = {indices}[{i}] - first if {indices}[{i}] >= 0 else {indices}[{i}] + total - first"
HERE = PLACE.format(name="place", i="i", indices="indices")
LATER = PLACE.format(name="later", i=f"min(i + {AHEAD}, last)", indices="indices")
ONE_CHECK = CHECK.format(indices="indices")
TAKE = """
from flowcore.jit.fetch import fetch

@inlined
def loop(K, G, C, first, N, total, W, V, {arguments}):
    {check}
    {width}
    last = indices.shape[0] - 1
    for n in range(indices.shape[0] // G):
        {beside}
        for j in range(G):
            i = n * G + j
            {later}
            if later >= 0 and later < N:
                fetch(table, (later + min(i + {ahead}, last) // K * N) * C, C)
            {place}
            {row}
            if place >= 0 and place < N:
                place += i // K * N
                source = table[place * C:place * C + C]
                for q in range(row.shape[0]):
                    row[q] {takes} source[q]
            {otherwise}
    return 0
"""
NOTHING = """else:
                for q in range(row.shape[0]):
                    row[q] = 0
"""
BESIDE = """row = y[(n * (W + G * C + V) + {start}):][:{width}]
        source = {name}[n * {width}:n * {width} + {width}]
        for q in range(row.shape[0]):
            row[q] = source[q]
        """
ADD = """
@inlined
def loop(K, C, first, N, total, rows, indices, y):
    {check}
    y[:] = 0
    for i in range(indices.shape[0]):
        {place}
        if place >= 0 and place < N:
            place += i // K * N
            row = rows[i * C:i * C + C]
            target = y[place * C:place * C + C]
            for q in range(row.shape[0]):
                target[q] += row[q]
    return 0
"""
UPDATE = """
from flowcore.jit.fetch import fetch

@exact
def find(place, H, slots, places):
    h = (place * 40503 ^ place >> 16) & (H - 1)
    while slots[h] >= 0 and places[slots[h]] != place:
        h = (h + 1) & (H - 1)
    return h

@exact
def row_of(i, C, {sizes}, {rows}):
    {which}

@exact
def loop(C, first, N, total, H, {sizes}, {arguments}, slots, places, following, last, order, g_row):
    {checks}
    {width}
    {copies}
    {scalars}
    count, begin, i = 0, 0, 0
    {one_by_one}
    for h in range(H):
        slots[h] = -1
    {merged}
    {rest}
    for m in range(count):
        i = order[min(m + {ahead}, count - 1)]
        start = places[i] * C
        {fetches}
        i = order[m]
        start = places[i] * C
        row = row_of(i, C, {sizes}, {rows})
        for q in range(row.shape[0]):
            g_row[q] = row[q]
        i = following[i]
        while i >= 0:
            row = row_of(i, C, {sizes}, {rows})
            for q in range(row.shape[0]):
                g_row[q] += row[q]
            i = following[i]
        {slices}
        for q in range(g_row.shape[0]):
            g = g_row[q]
            {loads}
            {stores}
    return 0
"""
WHICH = """if i < K{n}:
        start = i // R{n} * C
        return rows{n}[start:start + C]
    i -= K{n}
    """
MERGED = """for n in range(K{n}):
        {place}
        places[i], following[i] = place, -1
        if place >= 0 and place < N:
            h = find(place, H, slots, places)
            if slots[h] < 0:
                slots[h] = i
                order[count] = i
                count += 1
            else:
                following[last[slots[h]]] = i
            last[slots[h]] = i
        i += 1
    """
ROW_OF_EACH = """    for n in range(K{n}):
            {place}
            places[count], order[count] = place, n
            count += (place >= 0) & (place < N)
    """
ROW_OF_SEVERAL = """    for r in range(K{n} // R{n}):
            for n in range(r * R{n}, r * R{n} + R{n}):
                {place}
                places[count], order[count] = place, r
                count += (place >= 0) & (place < N)
    """
ONE_BY_ONE = """{placed}    for m in range(begin, count):
            later = min(m + {ahead}, count - 1)
            start = places[later] * C
            {fetches}
            {fetches_row}
            start = places[m] * C
            {slices}
            row = rows{n}[order[m] * C:order[m] * C + C]
            for q in range(row.shape[0]):
                g = row[q]
                {loads}
                {stores}
        begin = count
    """
REST = """if not np.isfinite(u) or math.copysign(1.0, u) < 0:
        g = {kind}(0)
        for place in range(N):
            if slots[find(place, H, slots, places)] < 0:
                start = place * C
                {slices}
                for q in range(g_row.shape[0]):
                    {loads}
                    {stores}
"""


def take(kind: str, index: str, count: int, width: int, first: int, length: int, total: int) -> Launch:
    """`count` rows of `width` elements of each table of `length` rows; zeros for those that others hold."""
    return _taken(kind, index, (count, 1, width, first, length, total), (0, 0))


def take_beside(
    kind: str, index: str, count: int, width: int, first: int, length: int, total: int, group: int, beside: Beside
) -> Launch:
    """As `take`, every `group` rows behind each other, between as many columns as `beside` says of other arrays."""
    return _taken(kind, index, (count, group, width, first, length, total), beside)


def take_sum(kind: str, index: str, count: int, width: int, first: int, length: int, total: int, group: int) -> Launch:
    """The sums of every `group` of the rows that `take` gives."""
    return _taken(kind, index, (count, group, width, first, length, total), None)


def _taken(kind: str, index: str, numbers: tuple[int, ...], beside: Beside | None) -> Launch:
    """Rows beside each other and beside other columns; None: their sums."""
    others = [name for name, columns in zip(("before", "after"), beside or (), strict=False) if columns]
    copies = {"before": ("0", "W"), "after": ("W + G * C", "V")}
    zero = "row = y[n * C:n * C + C]\n        for q in range(row.shape[0]):\n            row[q] = 0"
    filled = "".join(BESIDE.format(name=name, start=copies[name][0], width=copies[name][1]) for name in others)
    row = "start = n * (W + G * C + V) + W + j * C; row = y[start:start + C]"
    source = TAKE.format(
        arguments=", ".join(("table", "indices", *others, "y")), check=ONE_CHECK, ahead=AHEAD, later=LATER, place=HERE,
        width=_width(numbers[2], numbers[0]),
        beside=zero if beside is None else filled or "pass", row="pass" if beside is None else row,
        takes="=" if beside else "+=", otherwise=NOTHING if beside else "",
    )  # fmt: skip
    kernel = Kernel(source, 8, (kind, index, *(kind,) * (len(others) + 1)), checks=True)
    return Launch(kernel, (*numbers, *(beside or (0, 0))))


def add(kind: str, index: str, count: int, width: int, first: int, length: int, total: int) -> Launch:
    """The sums of every `count` rows by index, as tables of `length` rows."""
    kernel = Kernel(ADD.format(check=ONE_CHECK, place=HERE), 5, (kind, index, kind), checks=True)
    return Launch(kernel, (count, width, first, length, total))


def update(
    texts: tuple[str, ...], into: tuple[int, ...], scalars: int, is_exact: bool, is_linear: bool, kind: str, index: str,
    lists: Sequence[tuple[int, int]], width: int, first: int, length: int, total: int,
) -> Launch:  # fmt: skip
    """Rows merged into tables of `length` rows by formulas of tables, g and `scalars` numbers.

    lists: of rows and indices, one after the other: how many indices, and how many of these follow each other for a
    row. is_exact: rows that no index names become what the formulas say of g = 0 where u is negative or not finite.
    is_linear: rows of one index may be taken one after the other where u is positive and finite.
    """
    tables, numbers = TABLES[: len(texts)], SCALARS[:scalars]
    new = [letter for letter, source in zip(tables, into, strict=True) if source < 0]
    held = {letter: f"{letter}_{'new' if letter in new else 'all'}" for letter in tables}
    code = [FUNCTION.sub(rf"\1_{kind}(", NUMBER.sub(rf"{kind}(\g<0>)", text)) for text in texts]
    lines = {
        "fetches": "; ".join(f"fetch({name}, start, C)" for name in held.values()),
        "slices": "; ".join(f"{letter}_row = {name}[start:start + C]" for letter, name in held.items()),
        "loads": "; ".join(f"{letter} = {letter}_row[q]" for letter in tables),
        "stores": "; ".join((
            *(f"next_{letter} = {kind}({text})" for letter, text in zip(tables, code, strict=True)),
            *(f"{letter}_row[q] = next_{letter}" for letter in tables),
        )),
    }  # fmt: skip
    every = range(len(lists))
    given = [f"{name}{n}" for n in every for name in ("rows", "indices")]
    arguments = [*(f"{letter}_all" for letter in tables), *given, *(f"{letter}_one" for letter in numbers)]
    each = [{"n": n, "ahead": AHEAD, "place": PLACE.format(name="place", i="n", indices=f"indices{n}")} for n in every]
    one_by_one = "".join(
        ONE_BY_ONE.format(
            placed=(ROW_OF_EACH if run == 1 else ROW_OF_SEVERAL).format(**here),
            fetches_row="fetch(rows{n}, order[later] * C, C)".format(**here) if run == 1 else "pass", **here, **lines,
        )
        for here, (_, run) in zip(each, lists, strict=True)
    )  # fmt: skip
    source = UPDATE.format(
        sizes=", ".join(f"K{n}, R{n}" for n in every), rows=", ".join(f"rows{n}" for n in every), ahead=AHEAD,
        arguments=", ".join((*arguments, *(held[letter] for letter in new))),
        which="".join(WHICH.format(n=n) for n in every) + "return rows0[:C]",
        checks="".join(CHECK.format(indices=f"indices{n}") for n in every),
        merged="".join(MERGED.format(**here) for here in each),
        one_by_one=f"if u > 0 and np.isfinite(u):\n    {one_by_one}    return 0" if is_linear else "pass",
        copies="; ".join(f"{held[letter]}[:] = {letter}_all" for letter in new) or "pass",
        scalars="; ".join(f"{letter} = {letter}_one[0]" for letter in numbers) or "pass",
        rest=REST.format(kind=kind, **lines) if is_exact else "pass",
        width=_width(width, sum(indices for indices, _ in lists)), **lines,
    )  # fmt: skip
    kinds = (*(kind,) * len(tables), *(kind, index) * len(lists), *(kind,) * (scalars + len(new)), *("i8",) * 5, kind)
    count = sum(indices for indices, _ in lists)
    slots = 1 << (2 * count).bit_length()
    numbers_given = (width, first, length, total, slots, *(size for pair in lists for size in pair))
    kernel = Kernel(source, len(numbers_given), kinds, checks=True)
    return Launch(kernel, numbers_given, into, (slots, *(count,) * 4, width))


def _width(width: int, count: int) -> str:
    """The line that tells the compiler how wide `count` rows are, where they are many."""
    return f"C = {width}" if width * count >= MANY else "pass"
