"""The signatures of an operator on a mesh of several axes, from those on one axis.

The first axis divides the work into local operators on local blocks; the signatures of the other axes are those that
are right for every one of these.
"""

from __future__ import annotations

from functools import lru_cache

from flowcore.op import Op, Type, local_block, valid_signatures
from flowcore.placement.layout import Shape
from flowcore.placement.sbp import Split
from flowcore.placement.signature import Signature


@lru_cache(maxsize=16384)
def nd_signatures(op: Op, types: tuple[Type, ...], mesh: Shape) -> tuple[tuple[Signature, ...], ...]:
    """Every choice of one signature per axis of a mesh of this shape under which `op` may run, all-B first."""
    return _expand(op, types, op.infer(*types), mesh)


@lru_cache(maxsize=16384)
def _expand(
    op: Op, types: tuple[Type, ...], results: tuple[Type, ...], mesh: Shape
) -> tuple[tuple[Signature, ...], ...]:
    if not mesh:
        return ((),)
    found: list[tuple[Signature, ...]] = []
    for signature in valid_signatures(op, types, results, mesh[0]):
        problems = _local_problems(op, types, results, signature, mesh[0]) if mesh[1:] else [(op, types, results)]
        first, *others = (_expand(*problem, mesh[1:]) for problem in problems)
        shared = set(first).intersection(*others)
        found.extend((signature, *rest) for rest in first if rest in shared)
    return tuple(found)


def _local_problems(
    op: Op, types: tuple[Type, ...], results: tuple[Type, ...], signature: Signature, parts: int
) -> list[tuple[Op, tuple[Type, ...], tuple[Type, ...]]]:
    """The operator and the types of its blocks on the ranks of one axis, one for each distinct problem.

    Where an equation gives the signatures, only the types matter: blocks of one split differ in length at one rank
    only, its remainder, so that one and the first are asked. Rules of its own may depend on where a block begins.
    """
    sbps, values = (*signature.inputs, *signature.outputs), (*types, *results)
    splits = [(sbp.axis, value) for sbp, value in zip(sbps, values, strict=True) if isinstance(sbp, Split)]
    has_own_rules = type(op).rules is not Op.rules
    few = {0, *(value.shape[axis] % parts for axis, value in splits)}
    found: dict[tuple[Op, tuple[Type, ...]], tuple[Op, tuple[Type, ...], tuple[Type, ...]]] = {}
    for rank in range(parts) if has_own_rules else sorted(few):
        blocks = [local_block(value.shape, (parts,), (sbp,), (rank,)) for sbp, value in zip(sbps, values, strict=True)]
        local = tuple(Type(block.local, value.dtype) for block, value in zip(blocks, values, strict=True))
        inputs, outputs = blocks[: len(types)], blocks[len(types) :]
        localized = op.localize(inputs, outputs)
        key = (localized if has_own_rules else op, local)
        found.setdefault(key, (localized, local[: len(types)], local[len(types) :]))
    return list(found.values())
