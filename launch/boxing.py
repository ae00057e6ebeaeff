"""`flowcore boxing`: a change of layout given on the command line → its explanation, without ranks."""

import argparse
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

import flowcore as fc
from flowcore.launch.errors import LaunchError
from flowcore.placement.machine import Machine
from flowcore.placement.mesh import parse_placement
from flowcore.world import current

MOST_RANKS = 1 << 12
"""Ranks of a mesh that is explained: messages are listed pair by pair."""


def add_parser(commands: Any) -> None:
    """Add the grammar of `flowcore boxing` to the subparsers `commands`."""
    parser = commands.add_parser(
        "boxing",
        help="explain what a change of layout moves",
        description="Explain what changing the layout of a tensor would move: steps, messages, bytes, bound, time, and "
        "other ways. Nothing runs; the ranks need not exist.",
        epilog="example: flowcore boxing --shape 1024,1024 --mesh data=2,model=4 --from S0,B --to B,S1",
    )
    parser.add_argument("--shape", required=True, help="lengths of the tensor, as 1024,1024; '' for a scalar")
    parser.add_argument("--dtype", default="float32", help="its dtype (default: float32)")
    parser.add_argument("--mesh", required=True, help="the mesh, as data=2,model=4 or [0 1 2 3|data=2,model=2]")
    parser.add_argument("--from", dest="source", required=True, help="the layout it has, one SBP per axis, as S0,B")
    parser.add_argument("--to", dest="target", required=True, help="the layout it gets, as B,S1")
    parser.add_argument("--to-mesh", default=None, help="the mesh it goes to (default: the same)")
    parser.add_argument("--ranks-per-host", type=int, default=None, help="reckon with hosts of so many ranks each")
    parser.add_argument("--limit", type=int, default=8, help="messages to show of each step (default: 8)")


def explain(options: argparse.Namespace) -> int:
    """Print the explanation; returns 0."""
    if options.limit < 0:
        raise LaunchError(f"--limit {options.limit}: show 0 messages or more")
    here = read_mesh(options.mesh)
    there = here if options.to_mesh is None else read_mesh(options.to_mesh)
    machine = current().machine
    if options.ranks_per_host is not None:
        machine = spread(machine, max((*here.ranks, *there.ranks)) + 1, options.ranks_per_host)
    source, target = fc.Layout(here, options.source), fc.Layout(there, options.target)
    found = fc.explain_boxing(read_shape(options.shape), options.dtype, source, target, machine)
    print(found.text(options.limit))
    return 0


def read_mesh(text: str) -> fc.Placement:
    """The placement written as `data=2,model=4` (ranks from 0, in order) or as `[0 2 1 3|data=2,model=2]`."""
    if text.lstrip().startswith("["):
        return parse_placement(text)
    names, _, lengths = zip(*(part.partition("=") for part in text.split(",")), strict=True)
    try:
        shape = tuple(int(length) for length in lengths)
    except ValueError:
        raise LaunchError(f"mesh {text!r} is not a list of axes: write it as data=2,model=4") from None
    if min(shape) < 1:
        raise LaunchError(f"mesh {text!r} has an axis without ranks: give every axis a length of 1 or more")
    if prod(shape) > MOST_RANKS:
        raise LaunchError(f"mesh {text!r} has {prod(shape)} ranks: explain one of at most {MOST_RANKS}")
    return fc.Placement(np.arange(prod(shape)).reshape(shape), tuple(name.strip() for name in names))


def read_shape(text: str) -> tuple[int, ...]:
    """The shape written as `1024,1024`."""
    try:
        shape = tuple(int(length) for length in text.split(",") if length.strip())
    except ValueError:
        shape = (-1,)
    if any(length < 0 for length in shape):
        raise LaunchError(f"shape {text!r} is not a list of lengths: write it as 1024,1024")
    return shape


def spread(machine: Machine, ranks: int, each: int) -> Machine:
    """`machine` with `ranks` ranks on hosts of `each` ranks."""
    if each < 1:
        raise LaunchError(f"--ranks-per-host {each}: a host has at least 1 rank")
    return replace(machine, hosts=tuple(rank // each for rank in range(ranks)))
