"""x[key] and x[key] = v by numpy's rules, on every layout, under differentiation and under compilation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowcore as fc

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(3, 5, 4))
KEYS: list[Any] = [
    0, -1, (1, 2, 3), slice(1, 3), slice(None, None, -1), (slice(None), slice(4, None, -2)), (..., 0), None, (), ...,
    (0, None, slice(1, 4)), (slice(2, 2),), (slice(None), -1, slice(0, 4, 3)), (1, ..., -2), slice(7, 1, -3),
    np.array([2, 0]), [2, -1], np.uint8(1), np.array(2), (slice(None), np.array([[1, -1], [0, 4]])), (..., []),
    (slice(1, None), 0, np.array([3, 3, 0])), (0, slice(None), np.array([1, 1])), (np.array([0]), slice(1, 3), -1),
    (np.array([1, 2]), np.array([[4], [-1], [4]])), (np.array([1, 2]), slice(None), [0, 3]), ([0, 1], None, [1, 0]),
    (slice(None), [0, 4, 0], [1, 2, 1]), (np.array([0, 2]), np.array([1, 1]), np.array([3, -4])), (None, np.array([0])),
    X > 0, X > 9, X[:, :, 0] > 0, (slice(None), np.arange(5) % 2 == 0), (X[:, 0, 0] > 0, ..., 1), True, False,
    (slice(2), [1, 0, 2], ..., -1),
    (X[:, 0, 0] < 9, slice(None), [1, 2, 0]), (0, slice(None), np.arange(4) > 1), (np.arange(3) > 0, np.arange(5) > 2),
]  # fmt: skip
NAMES = [str(number) for number in range(len(KEYS))]
LAYOUTS: dict[str, Any] = {"B": fc.B, "S0": fc.S(0), "S1": fc.S(1), "S2": fc.S(2), "P": fc.P, "Pmin": fc.Partial("min")}


def same(found: Any, expected: Any, note: object) -> None:
    """Same shape, dtype and values."""
    got = found.numpy()
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype), note
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12, err_msg=str(note))


def changed(key: Any, value: Any) -> Any:
    """X after X[key] = value, by numpy."""
    x = X.copy()
    x[key] = value
    return x


def value_for(key: Any, full: bool) -> Any:
    """Something to assign to X[key]: of its shape, or that broadcasts to it."""
    shape = X[key].shape
    return RANDOM.normal(size=shape if full else shape[-1:])


def walk(layout: Any) -> None:
    """Every key, read and written, on a tensor laid out so."""
    for key in KEYS:
        x = fc.asarray(X).to_global(sbp=layout)
        same(x[key], X[key], key)
        for value in (np.full(X[key].shape, 7.5), np.arange(X[key].size, dtype=float).reshape(X[key].shape), 2):
            y = x + 0 if layout == fc.B else fc.asarray(X).to_global(sbp=layout)
            y[key] = value
            same(y, changed(key, value), key)
            assert layout == fc.B or y.sbp == x.sbp


@pytest.mark.parametrize("name", LAYOUTS)
def test_reading_and_writing_agree_with_numpy_on_every_layout(name: str) -> None:
    walk(LAYOUTS[name])
    fc.launch.run(lambda: walk(LAYOUTS[name]), ranks=3, transport="threads")


def test_indices_are_tensors_that_may_be_split() -> None:
    def program() -> None:
        places = fc.asarray(np.array([2, 0, 1, 0]), sbp=fc.S(0))
        mask = fc.asarray(X > 0, sbp=fc.S(1))
        x = fc.asarray(X, sbp=fc.S(0))
        same(x[places], X[[2, 0, 1, 0]], "tensor")
        same(x[mask], X[X > 0], "mask")
        assert x[mask].sbp == (fc.B,) and x[:, :, mask[0, 0]].sbp == (fc.S(0),)
        same(x[:, places, places], X[:, [2, 0, 1, 0], [2, 0, 1, 0]], "two")
        same(x[places[0]], X[2], "0-d")
        x[places] = fc.asarray(X[:1] + np.arange(4.0)[:, None, None])
        same(x, changed([2, 0, 1, 0], X[:1] + np.arange(4.0)[:, None, None]), "written")

    fc.launch.run(program, ranks=3, transport="threads")


def test_a_row_of_a_split_tensor_moves_alone() -> None:
    def program() -> None:
        x = fc.asarray(np.arange(1200.0).reshape(30, 40), sbp=fc.S(0))
        row = fc.compile(lambda x: x[17].to_global(sbp=fc.B))
        same(row(x), np.arange(1200.0).reshape(30, 40)[17], "row")
        assert row.plan(x).bytes_moved <= 2 * 2 * 40 * 8
        written = fc.compile(lambda x, v: fc.written(x, 17, v).to_global(sbp=fc.S(0)))
        assert written.plan(x, fc.ones((40,), dtype="float64")).bytes_moved == 0

    fc.launch.run(program, ranks=3, transport="threads")


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (3, IndexError), (-4, IndexError), ((0, 0, 0, 0), IndexError), ((..., ...), IndexError),
        (X[:2] > 0, IndexError), ([3], IndexError), (([0], [5]), IndexError), (slice(0, 2, 0), ValueError),
        (([0, 1], [0, 1, 2]), IndexError),
        (1.5, TypeError), (np.array([0.5]), TypeError), ("a", TypeError), (slice(0.5), TypeError),
    ],
    ids=str,
)  # fmt: skip
def test_bad_indices_are_typed_errors(key: Any, error: type[Exception]) -> None:
    for act in (lambda x: x[key], lambda x: x.__setitem__(key, 1.0)):
        with pytest.raises(fc.FlowcoreError) as caught:
            act(fc.asarray(X))
        assert isinstance(caught.value, error)


def test_bad_values_are_typed_errors() -> None:
    x, whole = fc.asarray(X), fc.asarray(np.arange(5))
    with pytest.raises(fc.ShapeError):
        x[0] = np.ones((5, 3))
    with pytest.raises(fc.DTypeError, match="cast the value"):
        whole[0] = 1.5
    with pytest.raises(fc.ShapeError):
        x[np.array([0, 1])] = np.ones((3, 5, 4))


def weighted(x: Any) -> Any:
    """A scalar that tells the elements of x apart."""
    return (x * x * fc.asarray(np.arange(1.0, x.size + 1).reshape(x.shape))).sum()


@pytest.mark.parametrize("number", range(len(KEYS)))
def test_gradients_flow_to_what_is_read_and_written(number: int) -> None:
    key = KEYS[number]
    value = RANDOM.normal(size=X[key].shape)

    def read(x: Any) -> Any:
        return weighted(x[key])

    def write(x: Any, v: Any) -> Any:
        y = x * 1.0
        y[key] = v * v
        return weighted(y)

    def by_numpy(x: Any, v: Any) -> float:
        y = x.copy()
        y[key] = v * v
        return float((y * y * np.arange(1.0, y.size + 1).reshape(y.shape)).sum())

    w = np.arange(1.0, X[key].size + 1).reshape(X[key].shape)
    expected = np.zeros_like(X)
    np.add.at(expected, key, 2 * w * X[key])
    same(fc.grad(read)(fc.asarray(X)), expected, key)
    dx, dv = fc.grad(write, argnums=(0, 1))(fc.asarray(X), fc.asarray(value))
    step = 1e-6
    for found, at in ((dx, 0), (dv, 1)):
        direction = RANDOM.normal(size=found.shape)
        ends = [[X, value] for _ in range(2)]
        ends[0][at], ends[1][at] = (ends[0][at] + step * direction, ends[1][at] - step * direction)
        slope = (by_numpy(*ends[0]) - by_numpy(*ends[1])) / (2 * step)
        assert float(np.vdot(direction, found.numpy())) == pytest.approx(slope, rel=1e-5, abs=1e-6)
    if X[key].ndim:
        again = fc.grad(lambda x: weighted(fc.grad(read)(x)))(fc.asarray(X))
        assert again.shape == X.shape


def test_assignment_to_leaves_and_to_what_was_read_before_is_an_error() -> None:
    leaf = fc.asarray(X.copy()).requires_grad_()
    with pytest.raises(fc.GradError, match="leaf"):
        leaf[0] = 1.0
    with fc.no_grad():
        leaf[0] = 1.0
    assert leaf.requires_grad and leaf.is_leaf
    y = leaf * 1.0
    loss = weighted(y)
    y[0] = 0.0
    with pytest.raises(fc.GradError, match="assigned to after"):
        loss.backward()


def test_a_value_assigned_whole_keeps_its_own_history() -> None:
    v = fc.asarray(X).requires_grad_()
    w, y = v * 2.0, fc.asarray(X * 0)
    y[...] = w
    (w.sum() + weighted(y)).backward()
    expected = 2 + 2 * 2 * 2 * X * np.arange(1.0, 61).reshape(X.shape)
    np.testing.assert_allclose(v.grad.numpy(), expected)


def test_compiled_functions_index_and_assign() -> None:
    def program() -> None:
        state = fc.asarray(np.zeros(4), sbp=fc.S(0))

        @fc.compile
        def step(x: Any, at: Any) -> Any:
            y = x * 2
            y[at] = 0.0
            y[y > 1] = 1.0
            state[1:3] = y[0, 0, :2]
            return y[..., at]

        for _ in range(2):
            y = X * 2
            y[[1, 0]] = 0.0
            y[y > 1] = 1.0
            same(step(fc.asarray(X, sbp=fc.S(1)), fc.asarray(np.array([1, 0]))), y[..., [1, 0]], "compiled")
            same(state, np.array([0, *y[0, 0, :2], 0]), "state")

    fc.launch.run(program, ranks=2, transport="threads")


@pytest.mark.parametrize(
    ("body", "remedy"),
    [
        (lambda x: x[x > 0], "fc.where"),
        (lambda x: fc.nonzero(x)[0], "fc.count_nonzero"),
        (lambda x: x.__setitem__(0, 1.0), "write to a copy"),
    ],
)
def test_what_a_traced_function_cannot_do_names_the_remedy(body: Any, remedy: str) -> None:
    with pytest.raises(fc.TraceError, match=remedy):
        fc.compile(body)(fc.asarray(X))
