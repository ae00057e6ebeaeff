"""`flowcore boxing` and `flowcore bench comm`: explanations and measurements from the command line."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]
ASKED = ("boxing", "--shape", "1024,1024", "--dtype", "float32", "--mesh", "data=2,model=4")


def test_a_change_of_layout_is_explained(flowcore: Command, tmp_path: Path) -> None:
    told = flowcore(*ASKED, "--from", "S0,B", "--to", "B,S1", "--limit", 2, XDG_CACHE_HOME=str(tmp_path))
    assert told.returncode == 0, told.stderr
    assert "moves 4.00 MiB in 8 messages, about 143.1 µs; bound 4.00 MiB, 1.00 × it" in told.stdout
    assert "    0 -> 4 [0:512, 0:256] 524288 bytes" in told.stdout
    assert "    and 6 more" in told.stdout


def test_another_mesh_and_hosts_are_taken_into_account(flowcore: Command, tmp_path: Path) -> None:
    wanted = ("--from", "S0,S1", "--to", "B", "--to-mesh", "[8 9 10 11|x=4]", "--ranks-per-host", 4)
    told = flowcore(*ASKED, *wanted, XDG_CACHE_HOME=str(tmp_path))
    assert told.returncode == 0, told.stderr
    assert "to   [8 9 10 11|x=4]:B" in told.stdout
    assert "leg 2 of 2: all_gather" in told.stdout


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--from", "S2,B", "--to", "B"), "S(2) splits a dimension"),
        (("--from", "S0", "--to", "B"), "give one per axis"),
        (("--from", "X,B", "--to", "B"), "unknown sbp 'X'"),
        (("--from", "B", "--to", "B", "--dtype", "float33"), "float33"),
        (("--from", "B", "--to", "B", "--shape", "3,x"), "is not a list of lengths"),
        (("--from", "B", "--to", "B", "--shape=-3"), "is not a list of lengths"),
        (("--from", "B", "--to", "B", "--mesh", "data"), "is not a list of axes"),
        (("--from", "B", "--to", "B", "--mesh", "data=0"), "an axis without ranks"),
        (("--from", "B", "--to", "B", "--to-mesh", "[0 1|"), "cannot read placement"),
        (("--from", "B", "--to", "B", "--ranks-per-host", "0"), "a host has at least 1 rank"),
        (("--from", "B", "--to", "B", "--limit=-3"), "show 0 messages or more"),
        (("--from", "B", "--to", "B", "--mesh", "data=9999999,model=9999999"), "explain one of at most"),
        (("--from", "S0,B", "--to", "B", "--shape", "99999999999,99999999999"), "cut the tensor smaller"),
    ],
)
def test_what_cannot_be_explained_is_refused(words: tuple[str, ...], complaint: str, flowcore: Command) -> None:
    told = flowcore(*ASKED, *words)
    assert told.returncode == 2
    assert complaint in told.stderr
    assert told.stderr.count("\n") == 1


def test_measured_figures_are_kept_and_used(flowcore: Command, tmp_path: Path) -> None:
    told = flowcore("bench", "comm", XDG_CACHE_HOME=str(tmp_path))
    assert told.returncode == 0, told.stderr
    path = tmp_path / "flowcore" / "machine.json"
    assert "2 ranks on 1 host" in told.stdout and f"kept in {path}" in told.stdout
    figures = json.loads(path.read_text())
    path.write_text(json.dumps(figures | {"within": [1.0, 0.0], "copy_per_byte": 0.0, "step": 0.0}))
    told = flowcore(*ASKED, "--from", "S0,B", "--to", "B,B", XDG_CACHE_HOME=str(tmp_path))
    assert "in 8 messages, about 1.00 s" in told.stdout


def test_measuring_takes_two_ranks(flowcore: Command) -> None:
    told = flowcore("bench", "comm", "-n", 1)
    assert told.returncode == 2
    assert "it takes 2 ranks" in told.stderr
