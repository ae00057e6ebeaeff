"""Trains a wide & deep model on clicks, with the parallelism that its options name.

    python examples/wide_deep.py                                   one rank, synthetic clicks
    flowcore run -n 4 examples/wide_deep.py                        data parallel
    flowcore run -n 4 examples/wide_deep.py --model 4              rows of the tables over the ranks
    flowcore run -n 4 examples/wide_deep.py --model 4 --columns    columns of the tables over the ranks
    flowcore run -n 4 examples/wide_deep.py --data 2 --model 2     both
    flowcore run -n 4 examples/wide_deep.py --zero 3               everything split over the data ranks

Cheng et al. 2016: a linear model and an MLP read the same categories, each through a table with a row per category. A
batch names few rows; a step reads and changes these alone, and between ranks move rows, never tables.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import training

import flowcore as fc

CLASSES, DENSE = 2, 13
MLP_SPLITS = {"up.*": 0, "middle.weight": 1}
"""Tensor parallel: the first layer by its rows, the second by the columns that read them."""


@dataclass
class Options(training.Options):
    """What the command line sets."""

    rows: int = training.option(1_000_000, "rows of a table: categories of all fields")
    width: int = training.option(64, "columns of the deep table")
    fields: int = training.option(26, "categories of an example")
    hidden: int = training.option(512, "width of the first hidden layer, twice that of the second")
    columns: bool = training.option(False, "split the deep table over the model axis by columns, not by rows")
    tables: str = training.option("sgd", "optimizer of the tables: sgd, adagrad or sparse_adam")
    table_lr: float = training.option(0.1, "learning rate of the tables")
    batch: int = training.option(1024, "rows of a batch, over all ranks")


class WideDeep(fc.nn.Module):
    """Categories (n, fields) and numbers (n, 13) → logits (n, 2)."""

    def __init__(self, rows: int, width: int, fields: int, hidden: int, dtype: str = "float32") -> None:
        self.wide = fc.nn.Embedding(rows, CLASSES, sparse=True, dtype=dtype)
        self.deep = fc.nn.Embedding(rows, width, sparse=True, dtype=dtype)
        self.up = fc.nn.Linear(fields * width + DENSE, hidden, dtype=dtype)
        self.middle = fc.nn.Linear(hidden, hidden // 2, dtype=dtype)
        self.down = fc.nn.Linear(hidden // 2, CLASSES, dtype=dtype)
        fc.nn.init.zeros_(self.wide.weight)
        fc.nn.init.normal_(self.deep.weight, std=0.05)

    def forward(self, ids: fc.Tensor, numbers: fc.Tensor) -> fc.Tensor:
        rows = self.deep(ids)
        x = fc.concat([rows.reshape((rows.shape[0], -1)), numbers], axis=1)
        deep = self.down(fc.nn.relu(self.middle(fc.nn.relu(self.up(x)))))
        return deep + fc.sum(self.wide(ids), axis=1)


class Optimizers:
    """One optimizer for the tables and one for the rest, as one."""

    def __init__(self, model: WideDeep, options: Options) -> None:
        kinds = {"sgd": fc.optim.SGD, "adagrad": fc.optim.Adagrad, "sparse_adam": fc.optim.SparseAdam}
        if options.tables not in kinds:
            raise SystemExit(f"--tables {options.tables}: it is one of {', '.join(kinds)}")
        tables = [model.wide.weight, model.deep.weight]
        rest = fc.nn.ModuleList([model.up, model.middle, model.down])
        self.parts = (kinds[options.tables](tables, lr=options.table_lr), training.optimizer(rest, options))

    def step(self) -> None:
        """Update all parameters."""
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self.parts:
            part.zero_grad()


def splits(options: Options) -> dict[str, int]:
    """What the model axis splits."""
    return {"wide.weight": 0, "deep.weight": int(options.columns), **MLP_SPLITS}


def batches(mesh: fc.Placement, options: Options) -> Iterator[tuple[fc.Tensor, ...]]:
    """Categories, of which some are far more frequent, numbers, and clicks that follow from both."""
    draw = np.random.default_rng(options.seed)
    taste, slope = draw.normal(size=997), draw.normal(size=DENSE)
    for _ in range(options.steps):
        ids = (options.rows * draw.random((options.batch, options.fields)) ** 3).astype(np.int64)
        numbers = draw.normal(size=(options.batch, DENSE))
        score = taste[ids % len(taste)].sum(1) + numbers @ slope
        clicks = (score > draw.logistic(size=options.batch)).astype(np.int64)
        parts = ids, numbers.astype(options.dtype), clicks
        yield tuple(fc.asarray(part, placement=mesh, sbp={"data": fc.S(0)}) for part in parts)


def run(options: Options) -> training.Report:
    """Train; collective over all ranks."""
    mesh = training.mesh_of(options)
    fc.manual_seed(options.seed)
    model = WideDeep(options.rows, options.width, options.fields, options.hidden, options.dtype)
    training.place(model, mesh, options, splits(options))

    def loss(ids: fc.Tensor, numbers: fc.Tensor, clicks: fc.Tensor) -> fc.Tensor:
        return fc.nn.cross_entropy(model(ids, numbers), clicks)

    return training.train(options, loss, Optimizers(model, options), batches(mesh, options))


if __name__ == "__main__":
    sys.exit(training.main(Options, __doc__, run))
