"""The plan lays out the state of an optimizer that nobody has laid out, and nothing else changes by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore import pipeline
from flowcore.boxing_op import Carry, Relayout
from flowcore.graph import Graph
from flowcore.placement.layout import sbp_text
from flowcore.placement.machine import Machine
from flowcore.world import World, activate, current
from tests.examples.programs import First, example

ONE_HOST, TWO_HOSTS = Machine(), Machine(hosts=(0, 0, 1, 1))
WORLDS = [
    *(("mlp", *mesh, ONE_HOST) for mesh in ((2, 1), (8, 1), (2, 2))),
    *(("gpt", *mesh, ONE_HOST) for mesh in ((3, 1), (2, 4))),
    *((name, *mesh, TWO_HOSTS) for name in ("mlp", "gpt") for mesh in ((4, 1), (2, 2))),
]
X = np.random.default_rng(0).normal(size=(12, 96)).astype(np.float64)


def step_of(name: str, data: int, model: int) -> Graph:
    """The logical graph of a step of an example, in a world without data."""
    module, training = example(name), example("training")
    sizes = {"hidden": 256} if name == "mlp" else {"layers": 1, "width": 32, "context": 16, "heads": 4}
    options = module.Options(data=data, model=model, batch=24, **sizes)
    with activate(World(First(data * model))):
        mesh = training.mesh_of(options)
        net = module.MLP(options.hidden) if name == "mlp" else module.GPT(options, 128)
        training.place(net, mesh, options, module.SPLITS)
        opt = training.optimizer(net, options)
        shape, dtype = ((24, 784), "float32") if name == "mlp" else ((24, 16), "int64")
        x = fc.zeros(shape, dtype=dtype, placement=mesh, sbp={"data": fc.S(0)})
        y = fc.zeros(shape[:1] if name == "mlp" else shape, dtype="int64", placement=mesh, sbp={"data": fc.S(0)})

        def step(x: fc.Tensor, y: fc.Tensor) -> fc.Tensor:
            loss = fc.nn.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            opt.zero_grad()
            return loss

        return fc.compile(step).graph(x, y)


def beside_parameters(graph: Graph) -> Graph:
    """The same step with every state kept as it lies."""

    def kept(node: Any) -> Any:
        if not isinstance(node.op, Carry):
            return node
        value = graph.values[node.inputs[1]]
        return replace(node, op=Relayout(str(value.placement), sbp_text(value.layout.sbp)), inputs=node.inputs[:1])

    return replace(graph, nodes=tuple(map(kept, graph.nodes)))


def reckoned(plan: fc.Plan) -> float:
    """Seconds of a step in which nothing happens beside anything else."""
    return plan.computing_seconds + sum(transfer.seconds for transfer in plan.transfers)


@pytest.mark.parametrize(("name", "data", "model", "machine"), WORLDS)
def test_the_plan_is_never_predicted_slower_and_keeps_to_the_bound(
    name: str, data: int, model: int, machine: Machine
) -> None:
    graph = step_of(name, data, model)
    free = fc.Plan(pipeline.physical(graph, machine), machine)
    fixed = fc.Plan(pipeline.physical(beside_parameters(graph), machine), machine)
    assert reckoned(free) <= reckoned(fixed)
    assert free.peak_bytes <= fixed.peak_bytes
    assert all(transfer.bytes == transfer.bound for transfer in free.transfers)
    if not machine.hosts:  # between hosts a path may move more bytes in less time
        assert free.bytes_moved <= fixed.bytes_moved
    assert free.text() == fc.Plan(pipeline.physical(step_of(name, data, model), machine), machine).text()


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_on_one_host_gradients_are_reduced_to_the_shards_that_update_them(ranks: int) -> None:
    plan = fc.Plan(pipeline.physical(step_of("mlp", ranks, 1), Machine()))
    weight = [t for t in plan.transfers if t.shape == (256, 784)]
    reduced, gathered = weight
    assert len(weight) == 2 and reduced.source.is_partial
    assert str(reduced.target.sbp[0])[0] == "S" and str(gathered.target.sbp[0]) == "B"
    assert reduced.bytes + gathered.bytes == 2 * (ranks - 1) * 256 * 784 * 4
    assert "to slices" in reduced.reason and "against whole" in reduced.reason


class Trained:
    """A layer with an optimizer, and a step of it, eager or compiled."""

    def __init__(self, make: Callable[..., Any] = fc.optim.AdamW, width: int = 64, **options: Any) -> None:
        fc.manual_seed(0)
        self.layer = fc.nn.Linear(96, width, dtype="float64")
        self.layer.place(fc.Placement.grid(data=-1), {})
        self.opt = make(self.layer.parameters(), lr=0.01, **options)
        self.x = fc.asarray(X, placement=self.layer.weight.placement, sbp=fc.S(0))
        self.compiled = fc.compile(self.step)

    def step(self, x: fc.Tensor) -> fc.Tensor:
        y = self.layer(x)
        loss = (y * y).sum()
        loss.backward()
        self.opt.step()
        self.opt.zero_grad()
        return loss

    def run(self, kinds: str) -> list[float]:
        """The losses of steps that are eager (e) or compiled (c)."""
        return [(self.compiled if kind == "c" else self.step)(self.x).item() for kind in kinds]

    @property
    def states(self) -> set[str]:
        """How the states of the weight lie."""
        return {sbp_text(state.sbp) for state in self.opt.state[id(self.layer.weight)].values()}


def everywhere(program: Callable[[], Any], ranks: int = 4) -> Any:
    """What `program` gives on every rank, which is the same."""
    first, *others = fc.launch.run(program, ranks=ranks)
    assert all(other == first for other in others)
    return first


EXPECTED = fc.launch.run(lambda: Trained().run("eeeeee"), ranks=1)[0]


@pytest.mark.parametrize("kinds", ["eeeeee", "cccccc", "ecccee", "cceecc"])
def test_eager_and_compiled_steps_mix(kinds: str) -> None:
    def program() -> tuple[list[float], set[str]]:
        trained = Trained()
        return trained.run(kinds), trained.states

    losses, states = everywhere(program)
    assert losses == pytest.approx(EXPECTED, rel=1e-12)
    assert states == ({"S0"} if "c" in kinds else {"B"})


def test_a_plan_that_is_only_looked_at_moves_no_state() -> None:
    def program() -> tuple[set[str], set[str]]:
        trained = Trained()
        trained.run("e")
        trained.compiled.plan(trained.x)
        before = trained.states
        trained.run("c")
        return before, trained.states

    assert everywhere(program) == ({"B"}, {"S0"})


def test_state_that_the_user_laid_out_stays() -> None:
    def program() -> set[str]:
        trained = Trained(state_sbp="B")
        trained.run("c")
        return trained.states

    assert everywhere(program) == {"B"}


def test_state_is_saved_and_loaded_across_layouts() -> None:
    def program() -> list[float]:
        first, second = Trained(), Trained()
        losses = first.run("ccc")
        second.layer.load_state_dict(first.layer.state_dict())
        second.opt.load_state_dict(first.opt.state_dict())
        return [*losses, *second.run("c"), *second.run("ec")]

    assert everywhere(program) == pytest.approx(EXPECTED, rel=1e-12)


def test_two_functions_that_share_an_optimizer_agree() -> None:
    def program() -> tuple[list[float], int, set[str]]:
        trained = Trained()
        other = fc.compile(lambda x: trained.step(x) * 1.0)
        other.plan(trained.x)
        losses = []
        for _ in range(3):
            losses += [trained.compiled(trained.x).item(), other(trained.x).item()]
        variants = [len(f.variants(current())) for f in (other, trained.compiled)]
        return losses, max(variants), trained.states

    losses, variants, states = everywhere(program)
    assert losses == pytest.approx(EXPECTED, rel=1e-12)
    assert variants == 1 and states == {"S0"}


def test_a_parameter_placed_anew_takes_its_state_along() -> None:
    def program() -> tuple[list[float], set[str], set[str]]:
        trained = Trained()
        losses = trained.run("cc")
        trained.layer.place(trained.layer.weight.placement, {"weight": {"data": fc.S(1)}})
        losses += trained.run("e")
        beside = trained.states
        return losses + trained.run("ccc"), beside, trained.states

    losses, beside, after = everywhere(program)
    assert losses == pytest.approx(EXPECTED, rel=1e-12)
    assert beside == {"S1"} and after == {"S1"}


@pytest.mark.parametrize("make", [fc.optim.SGD, fc.optim.Adam], ids=lambda make: make.__name__)
def test_without_state_or_decay_the_parameter_itself_is_gathered(make: Any) -> None:
    def program() -> list[str]:
        options = {"momentum": 0.9} if make is fc.optim.SGD else {}
        trained = Trained(make, 1024, **options)
        return [f"{t.kind} {t.reason}" for t in trained.compiled.plan(trained.x).transfers if t.shape == (1024, 96)]

    reduced, gathered = everywhere(program)
    assert reduced.startswith("reduce_scatter") and gathered == "all_gather asked for by to_global"


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_parameter_that_lies_as_terms_trains_compiled_too(ranks: int) -> None:
    def live() -> tuple[list[float], list[float]]:
        found = []
        for transform in (lambda f: f, fc.compile):
            fc.manual_seed(0)
            mesh, net = fc.Placement.grid(data=fc.world_size()), fc.nn.Linear(8, 4, dtype="float64")
            net.place(mesh, {"weight": {"data": fc.P}})
            opt = fc.optim.AdamW(net.parameters(), lr=1e-2)

            def step(x: fc.Tensor, net: Any = net, opt: Any = opt) -> fc.Tensor:
                loss = fc.sum(net(x) ** 2)
                loss.backward()
                opt.step()
                opt.zero_grad()
                return loss

            run, x = transform(step), fc.ones((2, 8), dtype="float64", placement=mesh, sbp="B")
            found.append([run(x).item() for _ in range(4)])
        return found[0], found[1]

    for eager, compiled in fc.launch.run(live, ranks=ranks):
        np.testing.assert_allclose(compiled, eager, rtol=1e-9)
