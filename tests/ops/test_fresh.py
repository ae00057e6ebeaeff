"""What a function gives keeps its value when its argument is assigned to, even where it has nothing to do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import flowcore as fc

NOTHING_TO_DO: dict[str, Callable[[fc.Tensor], fc.Tensor]] = {
    "reshape": lambda x: fc.reshape(x, x.shape),
    "broadcast_to": lambda x: fc.broadcast_to(x, x.shape),
    "broadcast_arrays": lambda x: fc.broadcast_arrays(x, x)[0],
    "permute_dims": lambda x: fc.permute_dims(x, (0, 1)),
    "squeeze": lambda x: fc.squeeze(x, axis=()),
    "flip": lambda x: fc.flip(x, axis=()),
    "roll": lambda x: fc.roll(x, 0),
    "all of it": lambda x: x[...],
    "all rows": lambda x: x[:],
    "concat": lambda x: fc.concat([x]),
    "sum": lambda x: fc.sum(x, axis=()),
    "max": lambda x: fc.max(x, axis=()),
    "real": fc.real,
    "conj": fc.conj,
    "positive": lambda x: +x,
    "clip": fc.clip,
    "astype": lambda x: x.astype(x.dtype),
    "detach": lambda x: x.detach(),
    "to_global": lambda x: x.to_global(sbp="B"),
}
HOW = ("operator by operator", "by a compiled update", "inside a compiled function")


@pytest.mark.parametrize("requires_grad", [False, True], ids=["a tensor", "a parameter"])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", NOTHING_TO_DO)
def test_what_was_read_before_an_update_is_the_value_before(name: str, how: str, requires_grad: bool) -> None:
    state = fc.ones((64, 64))
    state.requires_grad = requires_grad

    @fc.compile
    def update() -> None:
        with fc.no_grad():
            state.assign(state * 2)

    @fc.compile
    def read_and_update() -> fc.Tensor:
        before = NOTHING_TO_DO[name](state)
        update()
        return before

    update()  # the memory of the state is then the program's, to be written over
    if how == HOW[2]:
        before = read_and_update()
    else:
        before = NOTHING_TO_DO[name](state)
        if how == HOW[1]:
            update()
        else:
            with fc.no_grad():
                state.assign(state * 2)
    update()
    np.testing.assert_array_equal(before.numpy(), 2)
    np.testing.assert_array_equal(state.numpy(), 8)
