"""How compiled code calls compiled code: words of 64 bits for arguments, and a table of such calls; needs numba.

A row of a table is the address of an entry, the number of its words, and the words; the table begins with the number of
its rows. An entry returns 0 where all is well.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types as numba_types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from flowcore.jit.lanes import exact

types: Any = numba_types  # some are made when it is imported
WORDS = types.CPointer(types.int64)
ENTRY = types.int64(WORDS)
"""The signature of an entry, and that of `run`."""


def _flat(context, words, place, kind):
    """The flat array of `kind` whose address and length are words number `place` and `place` + 1.

    Written in place: a function would be compiled anew for every place.
    """

    def generate(context, builder, signature, given):
        made = signature.return_type
        address, length = (
            builder.load(builder.gep(given[0], [builder.add(given[1], given[1].type(n))])) for n in range(2)
        )
        number = context.get_data_type(kind.dtype)
        size = context.get_abi_sizeof(number)
        array = context.make_array(made)(context, builder)
        data = builder.inttoptr(address, number.as_pointer())
        populate_array(array, data, [length], [length.type(size)], length.type(size), None)
        return array._getvalue()

    return types.Array(kind.dtype, 1, "C")(WORDS, types.int64, kind), generate


def _call(context, address, words, place):
    """What the entry at `address` returns for the words from number `place` on."""

    def generate(context, builder, signature, given):
        word = ir.IntType(64)
        function = builder.inttoptr(given[0], ir.FunctionType(word, [word.as_pointer()]).as_pointer())
        return builder.call(function, [builder.gep(given[1], [given[2]])])

    return types.int64(types.int64, WORDS, types.int64), generate


flat: Any = intrinsic(_flat)
call: Any = intrinsic(_call)


@exact
def run(table):
    """Call the rows of `table` in order, up to one that returns something else than 0: its number from 1 on, or 0."""
    place = 1
    for row in range(table[0]):
        if call(table[place], table, place + 2) != 0:
            return row + 1
        place += 2 + table[place + 1]
    return 0
