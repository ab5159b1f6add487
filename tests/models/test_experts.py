"""Mixtral's sparse MLP: against a loop over tokens, its gradients, and what must not change a token's result."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vidlmm.models import Decoder
from vidlmm.models.experts import experts, grouped, route
from vidlmm.spec import DecoderSpec

WIDTH, INNER, COUNT = 6, 10, 4


def layer(seed: int = 0, count: int = COUNT) -> dict[str, jax.Array]:
    draw = np.random.default_rng(seed).normal
    shapes = {
        "router": (WIDTH, count),
        "expert_gate": (count, WIDTH, INNER),
        "expert_up": (count, WIDTH, INNER),
        "expert_down": (count, INNER, WIDTH),
    }
    return {name: jnp.asarray(draw(size=shape), jnp.float32) for name, shape in shapes.items()}


def tokens(rows: int, length: int, seed: int = 1) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(rows, length, WIDTH)), jnp.float32)


def one_token(x: np.ndarray, p: dict[str, np.ndarray], top_k: int) -> np.ndarray:
    """The definition: softmax over all experts, the best top_k renormalised, their MLPs added up."""
    logits = x @ p["router"]
    scores = np.exp(logits - logits.max())
    scores /= scores.sum()
    best = np.argsort(-scores)[:top_k]
    total = np.zeros_like(x)
    for e in best:
        gate = x @ p["expert_gate"][e]
        hidden = gate / (1 + np.exp(-gate)) * (x @ p["expert_up"][e])
        total += scores[e] / scores[best].sum() * (hidden @ p["expert_down"][e])
    return total


def dense(x: jax.Array, p: dict[str, jax.Array], top_k: int = 2) -> jax.Array:
    """Every expert for every token, the ones not chosen times zero."""
    weight, chosen = route(x, p["router"], top_k)
    share = jnp.einsum("blk,blke->ble", weight, jax.nn.one_hot(chosen, p["router"].shape[1]))
    hidden = jax.nn.silu(jnp.einsum("bld,edm->blem", x, p["expert_gate"]))
    hidden = hidden * jnp.einsum("bld,edm->blem", x, p["expert_up"])
    return jnp.einsum("ble,blem,emd->bld", share, hidden, p["expert_down"])


run = jax.jit(experts, static_argnums=2)


@pytest.mark.parametrize("rows, length, count, top_k", [(2, 37, 4, 2), (3, 1, 8, 2), (1, 9, 3, 1), (1, 300, 4, 3)])
def test_every_token_gets_what_it_would_get_alone(rows: int, length: int, count: int, top_k: int):
    x, p = tokens(rows, length), layer(count=count)
    exact = {name: np.asarray(value, np.float64) for name, value in p.items()}
    expected = [[one_token(np.asarray(t, np.float64), exact, top_k) for t in row] for row in x]
    np.testing.assert_allclose(run(x, p, top_k), expected, atol=2e-4)


def test_gradients_are_those_of_the_dense_form():
    x, p, towards = tokens(2, 21), layer(), tokens(2, 21, seed=5)

    def gradients(form: Any) -> Any:
        return jax.jit(jax.grad(lambda x, p: jnp.sum(form(x, p) * towards), argnums=(0, 1)))(x, p)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), gradients(experts), gradients(dense))


def test_an_expert_nobody_chose_gets_no_gradient_and_disturbs_nobody():
    p = layer()
    # The last expert's score is far below the others' for tokens whose first entry is positive.
    p["router"] = p["router"].at[:, -1].set(jnp.asarray([-1e3] + [0.0] * (WIDTH - 1)))
    x = tokens(2, 15).at[:, :, 0].set(1.0)
    poisoned = p | {"expert_down": p["expert_down"].at[-1].set(jnp.nan)}
    np.testing.assert_array_equal(run(x, poisoned, 2), run(x, p, 2))
    found = jax.jit(jax.grad(lambda p: jnp.sum(experts(x, p) ** 2)))(p)
    for name in ("expert_gate", "expert_up", "expert_down"):
        np.testing.assert_array_equal(found[name][-1], 0)
        assert all(np.abs(found[name][e]).max() > 0 for e in range(COUNT - 1))


def test_all_tokens_may_choose_the_same_experts():
    p = layer()
    p["router"] = jnp.zeros((WIDTH, COUNT)).at[0].set(jnp.asarray([9.0, 0.0, 5.0, 0.0]))
    x = tokens(2, 33).at[:, :, 0].set(1.0)
    np.testing.assert_allclose(run(x, p, 2), dense(x, p), atol=2e-4)


def test_order_neighbours_and_padding_do_not_matter():
    x, p = tokens(2, 24), layer()
    found = np.asarray(run(x, p, 2))
    order = np.random.default_rng(3).permutation(24)
    np.testing.assert_allclose(run(x[:, order], p, 2), found[:, order], atol=1e-5)
    # Rows of a batch, and what stands behind a row, change nothing.
    np.testing.assert_allclose(run(x[1:], p, 2), found[1:], atol=1e-5)
    for behind in (0.0, 100.0):
        padded = jnp.concatenate([x, jnp.full((2, 8, WIDTH), behind)], axis=1)
        np.testing.assert_allclose(run(padded, p, 2)[:, :24], found, atol=1e-5)


def test_it_runs_under_scan_vmap_and_remat():
    x, layers = tokens(2, 11), jax.tree.map(lambda *a: jnp.stack(a), layer(0), layer(1))

    def through(form: Any, x: jax.Array, layers: dict[str, jax.Array]) -> jax.Array:
        step = jax.checkpoint(lambda x, p: (x + form(x, p), None))
        return jnp.sum(jax.lax.scan(step, x, layers)[0] ** 2)

    ours, theirs = (jax.jit(jax.grad(lambda x, p, f=f: through(f, x, p), argnums=1)) for f in (experts, dense))
    for a, b in zip(jax.tree.leaves(ours(x, layers)), jax.tree.leaves(theirs(x, layers)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4 * float(np.abs(b).max()))
    mapped = jax.jit(jax.vmap(experts, in_axes=(0, None)))(x[:, None], layer())
    np.testing.assert_allclose(mapped[:, 0], run(x, layer(), 2), atol=1e-5)


def test_bfloat16_stays_near_float32():
    x, p = tokens(1, 30), layer()
    coarse = run(x.astype(jnp.bfloat16), jax.tree.map(lambda a: a.astype(jnp.bfloat16), p), 2)
    assert coarse.dtype == jnp.bfloat16
    exact = run(x, p, 2)
    # A token on the border between two experts may go the other way.
    assert np.median(np.abs(coarse.astype(jnp.float32) - exact)) < 0.01 * float(np.abs(exact).max())


def test_a_decoder_with_experts_reads_token_by_token_what_it_reads_at_once():
    spec = DecoderSpec(20, 16, 2, 2, 1, 24, qkv_bias=False, experts=COUNT, max_length=16)
    graph, params = nnx.split(nnx.jit(lambda: Decoder(spec, rngs=nnx.Rngs(0)))())
    length, first = 7, 4
    embeds = jnp.asarray(np.random.default_rng(0).normal(size=(2, length, 16)), jnp.float32)
    position = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (2, length))
    # The second row is one token shorter: what stands behind it is padding.
    segment = (position < jnp.asarray([[first], [first - 1]])).astype(jnp.int32)

    @jax.jit
    def at_once(params: Any) -> jax.Array:
        return nnx.merge(graph, params)(embeds, position, jnp.ones_like(position), jnp.zeros_like(position))

    @jax.jit
    def begin(params: Any) -> Any:
        decoder = nnx.merge(graph, params)
        prompt = (embeds[:, :first], position[:, :first], segment[:, :first])
        return decoder.prefill(*prompt, decoder.init_cache(2, length))

    @jax.jit
    def step(params: Any, token: jax.Array, at: jax.Array, cache: Any) -> Any:
        return nnx.merge(graph, params).step(token, at, cache)

    expected = at_once(params)
    hidden, cache = begin(params)
    np.testing.assert_allclose(hidden[0], expected[0, :first], atol=2e-5)
    for number in range(3):
        at = jnp.asarray([first + number, first - 1 + number], jnp.int32)
        hidden, cache = step(params, embeds[jnp.arange(2), at][:, None], at, cache)
        np.testing.assert_allclose(hidden[:, 0], expected[jnp.arange(2), at], atol=2e-5)


@pytest.mark.parametrize("piece", [1, 3, 16])
def test_grouped_is_the_ragged_product(piece: int):
    x, weight = tokens(3, 13), layer()["expert_up"]
    sizes = jnp.asarray([[13, 0, 0, 0], [0, 4, 0, 9], [3, 3, 3, 4]], jnp.int32)
    towards = jnp.asarray(np.random.default_rng(7).normal(size=(3, 13, INNER)), jnp.float32)

    def ragged(x: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.stack([jax.lax.ragged_dot(x[b], weight, sizes[b]) for b in range(3)])

    def ours(x: jax.Array, weight: jax.Array) -> jax.Array:
        return grouped(piece, x, weight, sizes)

    np.testing.assert_allclose(jax.jit(ours)(x, weight), ragged(x, weight), atol=1e-5)
    of_ours, of_ragged = (
        jax.jit(jax.grad(lambda x, w, f=f: jnp.sum(f(x, w) * towards), argnums=(0, 1)))(x, weight)
        for f in (ours, ragged)
    )
    for a, b in zip(of_ours, of_ragged, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_the_work_is_that_of_the_tokens():
    """Eight experts of which each token takes two: the compiled program holds no product of all rows by all experts."""
    x, p = tokens(1, 64), layer(count=8)
    text = str(run.lower(x, p, 2).compile().as_text())
    assert f"f32[8,128,{INNER}]" not in text and f"f32[8,64,{INNER}]" not in text
