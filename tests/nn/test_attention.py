"""Attention agrees with the softmax of all scores in numpy, in all options, blocks and splits, to the second order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flowcore as fc
from flowcore.ops import attention as kernels

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(0)
Q, K, V = (RANDOM.normal(size=shape) for shape in ((2, 4, 7, 3), (2, 4, 6, 3), (2, 4, 6, 5)))
SEEN, ADDED = RANDOM.random((2, 1, 7, 6)) < 0.7, RANDOM.normal(size=(7, 6))
SEEN[0, 0, 2] = False


def reference(
    q: Array, k: Array, v: Array, mask: Array | None = None, causal: bool = False, scale: float | None = None
) -> Array:
    scores = np.einsum("...qd,...kd->...qk", q, k) * (1 / np.sqrt(q.shape[-1]) if scale is None else scale)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
    with np.errstate(invalid="ignore"):
        powers = np.exp(scores - scores.max(-1, keepdims=True))
    powers = np.nan_to_num(powers)
    return powers / np.maximum(powers.sum(-1, keepdims=True), 1e-300) @ v


CASES: dict[str, tuple[tuple[Array, ...], dict[str, Any]]] = {
    "plain": ((Q, K, V), {}),
    "causal": ((Q, K, V), {"is_causal": True}),
    "seen": ((Q, K, V), {"attn_mask": SEEN}),
    "added and causal": ((Q, K, V), {"attn_mask": ADDED, "is_causal": True, "scale": 0.3}),
    "one row of mask": ((Q, K, V), {"attn_mask": SEEN[1, 0, :1]}),
    "no leading dimensions": ((Q[0, 0], K[0, 0], V[0, 0]), {}),
    "broadcast": ((Q[:, :1], K[:1], V[0]), {"is_causal": True}),
}


def ours(q: fc.Tensor, k: fc.Tensor, v: fc.Tensor, attn_mask: Any = None, **options: Any) -> fc.Tensor:
    mask = None if attn_mask is None else fc.asarray(attn_mask)
    return fc.nn.scaled_dot_product_attention(q, k, v, mask, **options)


@pytest.mark.parametrize("budget", [1, 200, 1 << 20])
@pytest.mark.parametrize("name", CASES)
def test_attention_agrees_with_all_scores_at_once(name: str, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "SCORES", budget)
    arrays, options = CASES[name]
    expected = reference(*arrays, options.get("attn_mask"), options.get("is_causal", False), options.get("scale"))
    given = [fc.asarray(array) for array in arrays]
    np.testing.assert_allclose(ours(*given, **options).numpy(), expected, atol=1e-12)

    def loss(*given: fc.Tensor) -> fc.Tensor:
        return (ours(*given, **options) ** 2).sum()

    directions = [np.random.default_rng(i).normal(size=array.shape) for i, array in enumerate(arrays)]
    step = 1e-6
    ends = [
        (reference(*(a + sign * step * d for a, d in zip(arrays, directions, strict=True)), options.get("attn_mask"),
                   options.get("is_causal", False), options.get("scale")) ** 2).sum()
        for sign in (1, -1)
    ]  # fmt: skip
    found = fc.grad(loss, argnums=(0, 1, 2))(*given)
    slope = sum(np.vdot(d, g.numpy()) for d, g in zip(directions, found, strict=True))
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6, abs=1e-6)


def test_attention_is_equal_on_every_split_and_moves_nothing_on_batch_heads_and_queries() -> None:
    layouts = (
        ("B", "B", "B"),
        ("S0", "S0", "S0"),
        ("S1", "S1", "S1"),
        ("S2", "B", "B"),
        ("B", "B", "S3"),
        ("B", "S2", "S2"),
        ("P", "S3", "P"),
    )

    def program() -> tuple[list[Array], list[int]]:
        made, moved = [], []
        for sbps in layouts:
            given = [fc.asarray(array, sbp=sbp) for array, sbp in zip((Q, K, V), sbps, strict=True)]
            f = fc.compile(lambda q, k, v: ours(q, k, v, is_causal=True))
            moved.append(f.plan(*given).bytes_moved)
            made.append(f(*given).numpy())
            made.extend(g.numpy() for g in fc.grad(lambda *x, f=f: (f(*x) ** 2).sum(), argnums=(0, 1, 2))(*given))
        return made, moved

    for ranks in (2, 3):
        made, moved = fc.launch.run(program, ranks=ranks)[0]
        assert moved[:5] == [0] * 5
        for place in range(4, len(made)):
            np.testing.assert_allclose(made[place], made[place % 4], atol=1e-12)


def test_grouped_heads_share_keys() -> None:
    k, v = K[:, :2], V[:, :2]
    expected = reference(Q, k.repeat(2, axis=1), v.repeat(2, axis=1), SEEN)
    found = ours(fc.asarray(Q), fc.asarray(k), fc.asarray(v), SEEN, enable_gqa=True)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    by_head = RANDOM.random((2, 4, 7, 6)) < 0.8
    found = ours(fc.asarray(Q), fc.asarray(k), fc.asarray(v), by_head, enable_gqa=True)
    np.testing.assert_allclose(
        found.numpy(), reference(Q, k.repeat(2, axis=1), v.repeat(2, axis=1), by_head), atol=1e-12
    )


def test_a_learned_mask_has_a_gradient() -> None:
    q, k, v = (fc.asarray(array) for array in (Q, K, V))
    slope = fc.grad(lambda mask: (fc.nn.scaled_dot_product_attention(q, k, v, mask) ** 2).sum())(
        fc.asarray(ADDED)
    ).numpy()
    direction, step = RANDOM.normal(size=ADDED.shape), 1e-6
    ends = [(reference(Q, K, V, ADDED + sign * step * direction) ** 2).sum() for sign in (1, -1)]
    assert np.vdot(slope, direction) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


def test_dropout_of_weights_keeps_the_mean() -> None:
    q, k, v = (fc.asarray(array[:1, :1].repeat(200, axis=1)) for array in (Q, K, V))
    fc.manual_seed(0)
    found = fc.nn.scaled_dot_product_attention(q, k, v, dropout_p=0.3).numpy()
    np.testing.assert_allclose(found.mean(1), reference(Q, K, V)[:1, 0], atol=0.25)


def test_half_precision_is_computed_in_single() -> None:
    given = [fc.asarray((array * 8).astype(np.float16)) for array in (Q, K, V)]
    found = ours(*given)
    assert found.dtype == np.float16
    expected = reference(*((array * 8).astype(np.float16).astype(np.float64) for array in (Q, K, V)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-3, atol=2e-2)


@pytest.mark.parametrize("is_first", [False, True])
def test_multi_head_attention_is_its_projections(is_first: bool) -> None:
    layer = fc.nn.MultiHeadAttention(8, 2, batch_first=is_first, dtype="float64")
    assert sorted(layer.state_dict()) == ["in_proj_bias", "in_proj_weight", "out_proj.bias", "out_proj.weight"]
    x, memory = RANDOM.normal(size=(3, 5, 8)), RANDOM.normal(size=(3, 4, 8))
    padding = np.array([[False, False, True, False]] * 3)
    weight = layer.in_proj_weight.numpy()
    given = (x, memory, memory)
    projected = [value @ weight[8 * i : 8 * i + 8].T for i, value in enumerate(given)]
    q, k, v = (value.reshape(3, -1, 2, 4).transpose(0, 2, 1, 3) for value in projected)
    joined = reference(q, k, v, ~padding[:, None, None]).transpose(0, 2, 1, 3).reshape(3, 5, 8)
    expected = joined @ layer.out_proj.weight.numpy().T
    turn = (lambda a: a) if is_first else (lambda a: a.transpose(1, 0, 2))
    found = layer(*(fc.asarray(turn(a)) for a in given), key_padding_mask=fc.asarray(padding))
    np.testing.assert_allclose(turn(found.numpy()), expected, atol=1e-12)
    single = layer(*(fc.asarray(a[0]) for a in given), key_padding_mask=fc.asarray(padding[0]))
    np.testing.assert_allclose(single.numpy(), expected[0], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda q, k, v: ours(q, v, v), "equal features"),
        (lambda q, k, v: ours(q.astype("int64"), k.astype("int64"), v.astype("int64")), "floating dtype"),
        (lambda q, k, v: ours(q, k, v, ADDED[:, :3]), "one element per query and key"),
        (lambda q, k, v: ours(q, k, v, np.ones((7, 6), np.int64)), "it is bool"),
        (lambda q, k, v: ours(q, k[:, :3], v[:, :3], enable_gqa=True), "multiple"),
        (lambda q, k, v: ours(q, k[:, :, :0], v[:, :, :0]), "not 0"),
        (lambda q, k, v: fc.nn.MultiHeadAttention(8, 3), "must divide"),
    ],
)
def test_what_does_not_fit_is_an_error(call: Any, message: str) -> None:
    with pytest.raises(fc.FlowcoreError, match=message):
        call(*(fc.asarray(array) for array in (Q, K, V)))
