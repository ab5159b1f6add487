"""The sigmoid pair loss against its definition, pair by pair."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidlmm.losses import pair_logits, siglip_loss


def test_the_loss_is_the_sum_over_all_pairs():
    rng = np.random.default_rng(0)
    images, texts = (rng.standard_normal((4, 6)).astype(np.float32) for _ in range(2))
    images, texts = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts))
    scale, bias = math.log(10.0), -10.0
    total = 0.0
    for i in range(4):
        for j in range(4):
            logit = math.exp(scale) * float(images[i] @ texts[j]) + bias
            total += math.log1p(math.exp(-logit if i == j else logit))
    found = siglip_loss(jnp.asarray(images), jnp.asarray(texts), jnp.asarray(scale), jnp.asarray(bias))
    np.testing.assert_allclose(found, total / 4, rtol=1e-5)


def test_matching_pairs_are_pulled_together():
    images = jnp.eye(3, dtype=jnp.float32)
    args = jnp.asarray(2.0), jnp.asarray(-3.0)
    assert siglip_loss(images, images, *args) < siglip_loss(images, jnp.roll(images, 1, axis=0), *args)
    pull = jax.grad(siglip_loss)(images, images, *args)
    assert (np.diagonal(pull) < 0).all()


def test_a_picture_may_belong_to_several_texts():
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(3, 4)), rng.normal(size=(5, 4))
    images, texts = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (images, texts))
    together = rng.random((3, 5)) < 0.4
    logits = math.e * images @ texts.T - 0.5
    terms = np.log1p(np.exp(np.where(together, -logits, logits)))
    x, y = jnp.asarray(images, jnp.float32), jnp.asarray(texts, jnp.float32)
    scale, bias = jnp.asarray(1.0), jnp.asarray(-0.5)
    found = siglip_loss(x, y, scale, bias, jnp.asarray(together))
    assert float(found) == pytest.approx(terms.sum() / 3, rel=1e-5)
    np.testing.assert_allclose(pair_logits(x, y, scale, bias), logits, rtol=1e-5)
