"""Recurrent layers, each a scan over time; parameter names, shapes and conventions are PyTorch's.

The products with the inputs of all steps are one product before the scan; a step multiplies the state only.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, ClassVar

from flowcore.declared import Count, Length, Probability
from flowcore.errors import FlowcoreError, ShapeError
from flowcore.nn import init
from flowcore.nn.activations import relu, sigmoid
from flowcore.nn.functions import dropout, linear
from flowcore.nn.module import Module, Parameter
from flowcore.ops.create import zeros
from flowcore.ops.hyperbolic import tanh
from flowcore.ops.join import concatenate, stack
from flowcore.ops.shape import permute_dims
from flowcore.scan import scan
from flowcore.tensor import Tensor

State = tuple[Tensor, ...]


class Recurrent(Module):
    """Layers of recurrent cells, one after the other, each over all steps; perhaps in both directions.

    Of layer k: weight_ih_lk (gates · hidden_size, inputs), weight_hh_lk (gates · hidden_size, hidden_size), bias_ih_lk
    and bias_hh_lk (gates · hidden_size,); backwards the names end in _reverse. ±1/sqrt(hidden_size). dropout: of the
    inputs of every layer but the first.
    """

    gates: ClassVar[int]
    states: ClassVar[int] = 1

    def __init__(
        self,
        input_size: Length,
        hidden_size: Count,
        num_layers: Count = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: Probability = 0.0,
        bidirectional: bool = False,
        dtype: Any = "float32",
    ) -> None:
        if min(hidden_size, num_layers) < 1:
            raise ShapeError(f"{num_layers} layers of {hidden_size} units: there must be at least one of both")
        self.input_size, self.hidden_size, self.layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.directions = ("", "_reverse") if bidirectional else ("",)
        for layer in range(num_layers):
            inputs = input_size if layer == 0 else hidden_size * len(self.directions)
            for direction in self.directions:
                for name, shape in self._shapes(inputs).items():
                    setattr(self, f"{name}_l{layer}{direction}", Parameter(zeros(shape, dtype=dtype)))
        self.reset_parameters()

    def _shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        rows = self.gates * self.hidden_size
        weights: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, self.hidden_size)}
        return {**weights, "bias_ih": (rows,), "bias_hh": (rows,)} if self.bias else weights

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def cell(self, given: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        """The state after one step. given: the products with the inputs, (n, gates · hidden_size), with their bias."""
        raise NotImplementedError(f"{type(self).__name__} has no cell: define it")

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """(the hidden state of the last layer at every step, the last state of all layers).

        x: (steps, n, input_size), or (n, steps, input_size) if batch_first, or without n. state: (layers · directions,
        n, hidden_size), or a pair of them; None: zeros. The results are alike, directions side by side in the first.
        """
        x, is_single = self._checked(x)
        given = (state,) if isinstance(state, Tensor) else state
        if is_single and given is not None:
            given = tuple(part.reshape((part.shape[0], 1, part.shape[1])) for part in given)
        first = self._first(x, given)
        last: list[State] = []
        for layer in range(self.layers):
            if layer and self.dropout and self.training:
                x = dropout(x, self.dropout)
            found = [
                self._run(x, f"l{layer}{direction}", first[layer * len(self.directions) + number], bool(number))
                for number, direction in enumerate(self.directions)
            ]
            last.extend(state for state, _ in found)
            x = found[0][1] if len(found) == 1 else concatenate([y for _, y in found], axis=-1)
        final = tuple(stack([state[part] for state in last]) for part in range(self.states))
        if is_single:
            x, final = x.reshape((x.shape[0], x.shape[2])), tuple(part.reshape((-1, part.shape[2])) for part in final)
        elif self.batch_first:
            x = permute_dims(x, (1, 0, 2))
        return x, final[0] if self.states == 1 else final

    def _checked(self, x: Tensor) -> tuple[Tensor, bool]:
        """x as (steps, n, input_size), and whether it came without n."""
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            raise ShapeError(f"{type(self).__name__} of shape {x.shape}: it takes (steps, n, {self.input_size})")
        if x.ndim == 2:
            return x.reshape((x.shape[0], 1, x.shape[1])), True
        return (permute_dims(x, (1, 0, 2)) if self.batch_first else x), False

    def _first(self, x: Tensor, state: Any) -> list[State]:
        """The initial state of every layer and direction."""
        count, shape = self.layers * len(self.directions), (x.shape[1], self.hidden_size)
        if state is None:
            nothing = zeros(shape, dtype=x.dtype, placement=x.placement)
            return [(nothing,) * self.states] * count
        if len(state) != self.states or any(part.shape != (count, *shape) for part in state):
            shown = ", ".join(str(part.shape) for part in state)
            raise ShapeError(
                f"a state of shapes {shown}: {type(self).__name__} needs {self.states} of {(count, *shape)}"
            )
        return [tuple(part[number] for part in state) for number in range(count)]

    def _run(self, x: Tensor, name: str, state: State, is_reverse: bool) -> tuple[State, Tensor]:
        """(the last state, the hidden state at every step) of one layer in one direction."""
        weight, bias = getattr(self, f"weight_hh_{name}"), getattr(self, f"bias_hh_{name}", None)
        inputs = linear(x, getattr(self, f"weight_ih_{name}"), getattr(self, f"bias_ih_{name}", None))

        def step(state: State, given: Tensor) -> tuple[State, Tensor]:
            after = self.cell(given, state, weight, bias)
            return after, after[0]

        last, hidden = scan(step, state, inputs, reverse=is_reverse)
        return last, hidden

    def parts(self, x: Tensor) -> list[Tensor]:
        """x (n, gates · hidden_size) by gate."""
        size = self.hidden_size
        return [x[:, number * size : (number + 1) * size] for number in range(self.gates)]

    def describe(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.layers}"


class RNN(Recurrent):
    """h' = tanh(x W_ihᵀ + b_ih + h W_hhᵀ + b_hh), or relu of it."""

    gates = 1

    def __init__(
        self, input_size: Length, hidden_size: Count, num_layers: Count = 1, nonlinearity: str = "tanh", **options: Any
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise FlowcoreError(f"unknown nonlinearity {nonlinearity!r}: choose 'tanh' or 'relu'")
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, num_layers, **options)

    def cell(self, given: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        total = given + linear(state[0], weight, bias)
        return (tanh(total) if self.nonlinearity == "tanh" else relu(total),)


class LSTM(Recurrent):
    """c' = f c + i g, h' = o tanh(c'); the gates are i, f, g, o, the states (h, c) (Hochreiter, Schmidhuber, 1997)."""

    gates = 4
    states = 2

    def cell(self, given: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        i, f, g, o = self.parts(given + linear(state[0], weight, bias))
        c = sigmoid(f) * state[1] + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c


class GRU(Recurrent):
    """h' = (1 − z) n + z h, n = tanh(x W_inᵀ + b_in + r (h W_hnᵀ + b_hn)); the gates are r, z, n (arXiv:1406.1078)."""

    gates = 3

    def cell(self, given: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        (r, z, n), (own_r, own_z, own_n) = self.parts(given), self.parts(linear(state[0], weight, bias))
        keep = sigmoid(z + own_z)
        return ((1 - keep) * tanh(n + sigmoid(r + own_r) * own_n) + keep * state[0],)
