"""Modules: names, modes, placing, saving."""

from typing import Any

import numpy as np
import pytest

import flowcore as fc


class Net(fc.nn.Module):
    def __init__(self) -> None:
        self.first = fc.nn.Linear(4, 6)
        self.rest = [fc.nn.LayerNorm(6), fc.nn.Sequential(fc.nn.Dropout(0.5), fc.nn.Linear(6, 3, bias=False))]
        self.register_buffer("scale", fc.ones((3,)))
        self.scale: fc.Tensor

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        x = self.first(x)
        for layer in self.rest:
            x = layer(x)
        return x * self.scale


NAMES = ["first.weight", "first.bias", "rest.0.weight", "rest.0.bias", "rest.1.1.weight"]


def test_parameters_are_named_by_their_path() -> None:
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert [name for name, _ in net.named_buffers()] == ["scale"]
    assert sorted(net.state_dict()) == sorted([*NAMES, "scale"])
    assert "(first): Linear(4, 6, bias=True)" in repr(net)


def test_a_shared_parameter_is_one_parameter() -> None:
    pair = fc.nn.ModuleList([fc.nn.Linear(3, 3), fc.nn.Linear(3, 3)])
    second: Any = pair[1]
    second.weight = pair[0].weight  # type: ignore[attr-defined]  # a Linear
    assert len(list(pair.parameters())) == 3
    assert len(pair.state_dict()) == 4


def test_values_do_not_depend_on_the_number_of_ranks_or_the_place() -> None:
    def draw(sbp: str) -> list[Any]:
        fc.manual_seed(7)
        with fc.use(fc.Placement.grid(), sbp):
            net = fc.nn.Sequential(fc.nn.Linear(5, 7), fc.nn.Embedding(3, 4))
        return [value.numpy() for value in net.state_dict().values()]

    whole = fc.launch.run(draw, ranks=1, args=("B",))[0]
    for ranks, sbp in [(2, "B"), (2, "S0"), (3, "S0")]:
        for found in fc.launch.run(draw, ranks=ranks, args=(sbp,)):
            for a, b in zip(found, whole, strict=True):
                np.testing.assert_array_equal(a, b)
    assert np.abs(whole[0]).max() <= 1 / np.sqrt(5)


def test_place_lays_parameters_out_by_pattern_and_keeps_them() -> None:
    def check() -> None:
        net = Net()
        before = {name: (id(tensor), tensor.numpy()) for name, tensor in net.named_tensors()}
        mesh = fc.Placement.grid(data=1, model=2)
        net.place(mesh, {"*.weight": {"model": fc.S(-1)}, "first.*": {"model": fc.S(0)}})
        layouts = {name: ",".join(map(str, tensor.sbp)) for name, tensor in net.named_tensors()}
        assert layouts == {
            "scale": "B,B", "first.weight": "B,S0", "first.bias": "B,S0", "rest.0.weight": "B,S0",
            "rest.0.bias": "B,B", "rest.1.1.weight": "B,S1",
        }  # fmt: skip
        for name, tensor in net.named_tensors():
            assert tensor.placement == mesh and id(tensor) == before[name][0]
            np.testing.assert_array_equal(tensor.numpy(), before[name][1])

    fc.launch.run(check, ranks=2)


def test_place_moves_gradients_along() -> None:
    def check() -> None:
        layer = fc.nn.Linear(4, 2)
        layer(fc.ones((3, 4))).sum().backward()
        layer.place(fc.Placement.grid(model=2), {"weight": {"model": fc.S(1)}})
        assert layer.weight.grad is not None and layer.weight.grad.sbp == (fc.S(1),)
        np.testing.assert_array_equal(layer.weight.grad.numpy(), np.full((2, 4), 3))

    fc.launch.run(check, ranks=2)


def test_place_changes_nothing_where_a_pattern_is_wrong() -> None:
    net = Net()
    with pytest.raises(fc.PlacementError, match=r"'up\.\*' matches no parameter: there are .*first\.weight"):
        net.place(sbp={"up.*": "S0"})
    with pytest.raises(fc.PlacementError, match=r"first\.bias of shape \(6,\)"):
        net.place(sbp={"first.weight": "S0", "first.bias": "S1"})
    assert net.first.weight.sbp == (fc.B,)


def test_a_compiled_function_follows_train_and_eval() -> None:
    layer = fc.nn.Dropout(0.5)
    run = fc.compile(lambda x: layer(x))
    x = fc.ones((100,))
    assert 0 in run(x).numpy()
    layer.eval()
    assert 0 not in run(x).numpy()
    layer.train()
    assert 0 in run(x).numpy()


def test_a_compiled_dropout_draws_anew_at_every_run() -> None:
    run = fc.compile(lambda x: fc.nn.dropout(x, 0.5))
    x = fc.ones((100,))
    fc.manual_seed(1)
    first, second = run(x).numpy(), run(x).numpy()
    assert (first != second).any()
    fc.manual_seed(1)
    np.testing.assert_array_equal(fc.nn.dropout(x, 0.5).numpy(), first)
    np.testing.assert_array_equal(run(x).numpy(), second)


def test_a_state_is_taken_over_and_is_a_snapshot() -> None:
    source, target = Net(), Net()
    state = source.state_dict()
    fc.nn.init.zeros_(source.first.weight)
    target.load_state_dict({name: value.numpy() for name, value in state.items()})
    assert not (target.first.weight.numpy() == 0).any()
    np.testing.assert_array_equal(target.first.weight.numpy(), state["first.weight"].numpy())


def test_a_state_that_does_not_fit_is_refused() -> None:
    net = Net()
    state: dict[str, Any] = net.state_dict()
    with pytest.raises(fc.CheckpointError, match=r"missing \['scale'\]"):
        net.load_state_dict({name: value for name, value in state.items() if name != "scale"})
    with pytest.raises(fc.CheckpointError, match=r"unknown \['other'\]"):
        net.load_state_dict({**state, "other": state["scale"]})
    with pytest.raises(fc.ShapeError, match=r"scale has shape \(3,\)"):
        net.load_state_dict({**state, "scale": np.ones(4)})
    net.load_state_dict({"scale": np.full(3, 2)}, strict=False)
    assert net.scale.numpy().tolist() == [2, 2, 2] and net.scale.dtype == "float32"


def test_astype_casts_in_place() -> None:
    net = Net()
    weight = net.first.weight
    net.astype("float64")
    assert net.first.weight is weight and weight.dtype == "float64" and weight.requires_grad
