"""The tower beyond SigLIP's form, and the pair that pretrains it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.models.tiny import SPEC, tiny_model
from vidlmm.losses import siglip_loss
from vidlmm.models import SiglipPair, TextSpec, Tower
from vidlmm.models.params import seeded_normal
from vidlmm.spec import PixelSpec

TEXT = TextSpec(vocab=20, width=16, layers=1, heads=2, mlp=32, length=8)


def frames(count: int = 4, size: int = 16) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (count, size, size, 3)), jnp.uint8)


@nnx.jit
def features(tower: Tower, seen: jax.Array) -> jax.Array:
    return tower(seen)


@nnx.jit
def tokens(tower: Tower, seen: jax.Array) -> jax.Array:
    return tower.tokens(seen)


@nnx.jit
def texts(pair: SiglipPair, ids: jax.Array, lengths: jax.Array) -> jax.Array:
    return pair.texts(ids, lengths)


@pytest.mark.parametrize(("select", "first"), [("patch", 1), ("all", 0)])
def test_a_clip_tower_hands_on_its_patches_or_all_rows(select, first):
    spec = replace(
        SPEC.tower, class_token=True, pre_norm=True, patch_bias=False, activation="quick_gelu", select=select
    )
    tower = nnx.jit(lambda: Tower(spec, SPEC.pixels, rngs=nnx.Rngs(0)))()
    found = tokens(tower, frames())
    assert found.shape == (4, 17, 16)
    np.testing.assert_array_equal(found[:, first:], features(tower, frames()))


def test_pixels_past_the_last_whole_patch_are_not_looked_at():
    spec = replace(SPEC.tower, image_size=18)
    tower = nnx.jit(lambda: Tower(spec, PixelSpec(size=18), rngs=nnx.Rngs(0)))()
    seen, cut = np.asarray(frames(size=18)), np.zeros((4, 18, 18, 3), np.uint8)
    cut[:, :16, :16] = seen[:, :16, :16]
    np.testing.assert_array_equal(features(tower, jnp.asarray(seen)), features(tower, jnp.asarray(cut)))


def test_a_tower_and_pixels_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="side of 384, the tower looks at 16"):
        Tower(SPEC.tower, PixelSpec(), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("how", ["mean", "last"])
def test_padding_of_a_text_changes_nothing(how):
    spec = replace(TEXT, pool=how)
    pair = nnx.jit(lambda: SiglipPair(SPEC.tower, SPEC.pixels, spec, rngs=nnx.Rngs(0)))()
    ids = np.array([[3, 4, 5, 0, 0], [6, 7, 8, 9, 1]], np.int32)
    other = ids.copy()
    other[0, 3:] = 11
    lengths = jnp.asarray([3, 5], jnp.int32)
    found = texts(pair, jnp.asarray(ids), lengths)
    np.testing.assert_allclose(found, texts(pair, jnp.asarray(other), lengths), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)


def test_a_text_longer_than_the_positions_is_refused():
    pair = nnx.eval_shape(lambda: SiglipPair(SPEC.tower, SPEC.pixels, TEXT, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="texts of 9 ids, but the text tower knows 8"):
        pair.texts(jnp.zeros((1, 9), jnp.int32), jnp.asarray([9], jnp.int32))


def test_a_pair_learns_and_its_tower_is_the_models_tower():
    pair = nnx.jit(lambda: SiglipPair(SPEC.tower, SPEC.pixels, TEXT, rngs=nnx.Rngs(0)))()
    graph, params = nnx.split(pair)
    seen, ids = frames(), jnp.arange(12, dtype=jnp.int32).reshape(4, 3)
    lengths = jnp.full((4,), 3, jnp.int32)
    rule = optax.adam(1e-2)

    def loss(params):
        p = nnx.merge(graph, params)
        return siglip_loss(p.images(seen), p.texts(ids, lengths), p.log_scale[...], p.bias[...])

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = rule.update(grads, state, params)
        return value, optax.apply_updates(params, updates), state

    state, losses = rule.init(params), []
    for _ in range(30):
        value, params, state = step(params, state)
        losses.append(float(value))
    assert losses[-1] < 0.5 * losses[0]
    model, trained = tiny_model(), nnx.merge(graph, params)
    assert model.tower is not None
    assert model.tower is not None and trained.tower is not None
    nnx.update(model.tower, nnx.state(trained.tower))
    np.testing.assert_array_equal(features(model.tower, seen), features(trained.tower, seen))


def test_seeded_values_are_normal_and_belong_to_their_key():
    values = np.asarray(seeded_normal(jax.random.key(1), (40, 50, 60)))
    assert abs(values.mean()) < 0.01 and abs(values.std() - 1) < 0.01
    assert abs((values**4).mean() - 3) < 0.1
    rows = np.corrcoef(values.reshape(-1, 60))
    assert np.abs(rows[np.triu_indices(len(rows), 1)]).max() < 0.75
    other = np.asarray(seeded_normal(jax.random.key(2), (40, 50, 60)))
    assert abs(np.corrcoef(values.ravel(), other.ravel())[0, 1]) < 0.01
