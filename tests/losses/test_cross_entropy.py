"""The chunked cross entropy equals the plain one in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidlmm.losses import cross_entropy

TOKENS, WIDTH, VOCAB = 37, 8, 29


def case():
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((TOKENS, WIDTH)).astype(np.float32)
    head = rng.standard_normal((VOCAB, WIDTH)).astype(np.float32)
    weight = rng.choice(np.array([0, 1, 2.5], np.float32), TOKENS)
    target = rng.integers(0, VOCAB, TOKENS).astype(np.int32)
    return tuple(jnp.asarray(x) for x in (hidden, head, target, weight))


def plain(hidden, head, target, weight):
    logits = hidden @ head.T
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, None], 1)[:, 0]
    return jnp.sum(losses * weight), jnp.sum(weight), jnp.sum((logits.argmax(-1) == target) * weight)


@pytest.mark.parametrize("chunk", [1, 8, 37, 64])
def test_sums_and_gradients_are_those_of_the_plain_form(chunk: int):
    inputs = case()
    for ours, theirs in zip(cross_entropy(*inputs, chunk=chunk), plain(*inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)

    def mean(sums):
        return 3 * sums[0] / sums[1]

    ours = jax.jit(jax.grad(lambda *a: mean(cross_entropy(*a, chunk=chunk)), (0, 1)))(*inputs)
    theirs = jax.grad(lambda *a: mean(plain(*a)), (0, 1))(*inputs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_token_without_weight_counts_nothing_whatever_its_target():
    hidden, head, target, weight = case()
    free = np.asarray(weight == 0)
    assert free.any()
    wild = jnp.where(free, -100, target)
    expected = jax.grad(lambda h: cross_entropy(h, head, target, weight, chunk=8)[0])(hidden)
    found = jax.grad(lambda h: cross_entropy(h, head, wild, weight, chunk=8)[0])(hidden)
    np.testing.assert_array_equal(found, expected)
    assert not np.asarray(found)[free].any()


def test_no_tokens_with_weight_give_zero_sums_and_gradients():
    hidden, head, target, weight = case()
    sums = cross_entropy(hidden, head, target, 0 * weight, chunk=8)
    assert [float(s) for s in sums] == [0, 0, 0]


def test_large_logits_stay_finite():
    hidden, head, target, weight = case()
    sums, grads = jax.value_and_grad(lambda h: cross_entropy(h, head, target, weight, chunk=8)[0])(hidden * 1e4)
    assert np.isfinite(sums) and np.isfinite(grads).all()


def test_low_precision_is_close():
    hidden, head, target, weight = case()
    half = cross_entropy(jnp.asarray(hidden, jnp.bfloat16), jnp.asarray(head, jnp.bfloat16), target, weight, chunk=8)
    assert half[0].dtype == jnp.float32
    np.testing.assert_allclose(half[0], plain(hidden, head, target, weight)[0], rtol=0.02)


def test_all_logits_are_never_held():
    inputs = case()
    text = str(jax.make_jaxpr(jax.grad(lambda *a: cross_entropy(*a, chunk=8)[0], (0, 1)))(*inputs))
    assert f"[8,{VOCAB}]" in text
    assert f"[{TOKENS},{VOCAB}]" not in text and f"[40,{VOCAB}]" not in text


def test_a_chunk_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1 token, got 0"):
        cross_entropy(*case(), chunk=0)
