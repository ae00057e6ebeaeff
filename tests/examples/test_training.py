"""Every strategy of every training example gives the losses of one rank, and the plan it gave before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowcore.jit.store import is_available
from tests.examples.programs import CASES, STEPS, STRATEGIES, TINY, example, planned, reference, reports, watched

STRATEGY = pytest.mark.parametrize(
    ("name", "strategy", "ranks", "options"), CASES, ids=lambda part: str(part)[:20], scope="module"
)
"""What asks the same training comes together, so that one process trains it, and once."""


@STRATEGY
def test_a_strategy_gives_the_losses_of_one_rank(name: str, strategy: str, ranks: int, options: dict[str, Any]) -> None:
    expected = reference(name, options)
    assert len(expected) == STEPS and expected[-1] < expected[0]
    for report in reports(name, ranks, **options):
        assert report.losses == pytest.approx(expected, rel=1e-9, abs=0)


@pytest.mark.skipif(not is_available(), reason="without compiled loops numpy takes temporaries of a tile")
@STRATEGY
def test_no_strategy_takes_memory_step_by_step(name: str, strategy: str, ranks: int, options: dict[str, Any]) -> None:
    found = [(report.plan, asked, held) for report, asked, held in watched(name, ranks, **options) if report.plan]
    assert len(found) == ranks or strategy == "eager"
    assert not any(asked.bytes for _, asked, _ in found), "\n".join(str(asked) for _, asked, _ in found)
    assert all(held.others == 0 for *_, held in found)
    assert all(plan.peak_bytes == max(held.total for *_, held in found) for plan, *_ in found)


@pytest.mark.parametrize("name", TINY)
def test_the_transfers_of_every_strategy_are_as_they_were(name: str, golden: Callable[[str, str], None]) -> None:
    own = [(strategy, ranks, options) for example_name, strategy, ranks, options in CASES if example_name == name]
    plans = {strategy: planned(name, ranks, **options) for strategy, ranks, options in own if "eager" not in options}
    golden(f"example_{name}", "\n\n".join(f"{key}\n{moves(plan)}" for key, plan in plans.items()))


def moves(plan: Any) -> str:
    """What a plan moves, equal transfers counted, and its totals."""
    found = Counter(
        f"{t.kind} {t.dtype}{list(t.shape)} {t.source} -> {t.target}: {t.bytes} B, bound {t.bound} B"
        for t in plan.transfers
    )
    lines = [f"{count} x {move}" for move, count in found.items()]
    return "\n".join([*lines, f"{plan.bytes_moved} B in {plan.messages} messages"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_planned_without_data_is_what_is_trained(strategy: str) -> None:
    ranks, options = STRATEGIES[strategy]
    assert moves(reports("mlp", ranks, **options)[0].plan) == moves(planned("mlp", ranks, **options))


WIDE = [(strategy, ranks, options) for name, strategy, ranks, options in CASES if name == "wide_deep"]


@pytest.mark.parametrize(("strategy", "ranks", "options"), WIDE, ids=lambda part: str(part)[:20])
def test_no_table_moves_between_ranks(strategy: str, ranks: int, options: dict[str, Any]) -> None:
    transfers = planned("wide_deep", ranks, **options).transfers
    assert transfers
    assert all(TINY["wide_deep"]["rows"] not in transfer.shape for transfer in transfers)


@pytest.mark.parametrize("ranks", [2, 4])
def test_data_parallel_tables_cost_the_bytes_of_the_rows_of_a_batch(ranks: int) -> None:
    size = TINY["wide_deep"]
    batch, fields, width = size["batch"], size["fields"], size["width"]
    ids, rows, scores = (batch, fields), (batch, fields, width), (batch, 1, 2)
    plan = planned("wide_deep", ranks, tables="sparse_adam")
    moved = sum(transfer.bytes for transfer in plan.transfers if transfer.shape in (ids, rows, scores))
    # the wide table has the same gradient for all fields of an example, which goes to every rank once
    assert moved == 8 * (ranks - 1) * (prod(ids) + prod(rows) + prod(scores))


def test_every_character_of_a_text_is_a_token_and_so_are_its_most_frequent_words() -> None:
    text = "to be, or not to be\n"
    ids, tokens = example("gpt").tokenize(text, 12)
    assert len(tokens) == 12 and " be" in tokens
    assert "".join(tokens[i] for i in ids) == text


def test_a_vocabulary_smaller_than_the_characters_is_refused() -> None:
    with pytest.raises(SystemExit, match="less than the 20 different characters"):
        example("gpt").tokenize("abcdefghijklmnopqrst", 3)


def test_the_options_of_an_example_are_its_fields() -> None:
    mlp, training = example("mlp"), example("training")
    options = training.parse(mlp.Options, None, ["--hidden", "7", "--zero", "3", "--eager"])
    assert (options.hidden, options.zero, options.eager, options.batch) == (7, 3, True, mlp.Options.batch)


ARRAYS: dict[str, dict[str, Any]] = {
    "no arrays of that name": {"images": np.ones((4, 28, 28)), "labels": np.ones(4, int)},
    "images of another shape": {"x_train": np.ones((4, 5, 7)), "y_train": np.ones(4, int)},
    "words": {"x_train": np.array([["a"] * 784]), "y_train": np.ones(1, int)},
    "fractions for classes": {"x_train": np.ones((4, 784)), "y_train": np.ones(4)},
    "fewer classes": {"x_train": np.ones((4, 784)), "y_train": np.ones(3, int)},
}


@pytest.mark.parametrize("case", [*ARRAYS, "no file", "no archive"])
@pytest.mark.parametrize("name", ["mlp", "resnet"])
def test_a_file_without_images_ends_the_run_with_its_name(name: str, case: str, tmp_path: Path) -> None:
    file = tmp_path / "images.npz"
    if case in ARRAYS:
        np.savez(file, **ARRAYS[case])
    elif case == "no archive":
        file.write_text("hello")
    module = example(name)
    with pytest.raises(SystemExit, match=f"--images {file}"):
        module.images(module.Options(images=str(file)))


@pytest.mark.parametrize(
    ("options", "told"), [({"data": 3}, "--data 3: the world"), ({"warmup": 3}, "--warmup 3 counts")], ids=str
)
def test_options_that_cannot_be_kept_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(SystemExit, match=told):
        reports("mlp", 1, **options)


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"compress": "1bit"}], ids=str)
def test_what_only_a_compiled_step_does_is_refused_operator_by_operator(options: dict[str, Any]) -> None:
    module = example("mlp")
    with pytest.raises(SystemExit, match="--eager"):
        module.run(module.Options(**TINY["mlp"], eager=True, quiet=True, **options))
