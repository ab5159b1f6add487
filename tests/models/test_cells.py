"""Cells of pictures and their words: places are where they should be, and a few steps teach something."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from vidlmm.losses import siglip_loss
from vidlmm.models import CellPair
from vidlmm.spec import PixelSpec, TowerSpec

TOWER = TowerSpec(image_size=16, patch_size=4, width=16, layers=1, heads=2, mlp=32)


def pair(grid: int = 2) -> CellPair:
    return CellPair(TOWER, PixelSpec(size=16), vocab=8, grid=grid, rngs=nnx.Rngs(0))


def test_cells_come_picture_by_picture_in_the_order_asked_for():
    model = pair()
    frames = jnp.asarray(np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), np.uint8))
    every = model.images(frames, jnp.asarray([[0, 1, 2, 3]] * 2)).reshape(2, 4, -1)
    some = model.images(frames, jnp.asarray([[3, 1], [0, 2]])).reshape(2, 2, -1)
    np.testing.assert_allclose(some[0], every[0, jnp.asarray([3, 1])], atol=1e-6)
    np.testing.assert_allclose(some[1], every[1, jnp.asarray([0, 2])], atol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(every, axis=-1), 1.0, atol=1e-5)


def test_words_are_a_set_of_ids_and_missing_ones_do_not_count():
    texts = pair().texts(jnp.asarray([[1, 2, -1], [2, 1, -1], [1, -1, -1]]))
    np.testing.assert_allclose(texts[0], texts[1], atol=1e-6)
    assert float(jnp.abs(texts[0] - texts[2]).max()) > 1e-3


def test_a_grid_that_does_not_divide_the_patches_is_refused():
    with pytest.raises(ValueError, match="4 patches a side cannot be split into 3 cells"):
        pair(grid=3)


def test_steps_bring_cells_and_their_words_together():
    model = pair()
    graph, params = nnx.split(model, nnx.Param)
    rng = np.random.default_rng(1)
    which = rng.integers(0, 4, (8, 4))
    frames = np.repeat(np.repeat(which.reshape(8, 2, 2), 8, 1), 8, 2)[..., None] * 60 + np.zeros(3)
    frames, words = jnp.asarray(frames.astype(np.uint8)), jnp.asarray(which.reshape(-1, 1).astype(np.int32))
    cells = jnp.asarray(np.tile(np.arange(4), (8, 1)))
    same = words == words[:, 0]

    def loss(p: nnx.State) -> jax.Array:
        m = nnx.merge(graph, p)
        return siglip_loss(m.images(frames, cells), m.texts(words), m.log_scale[...], m.bias[...], same)

    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(p: Any, state: Any) -> tuple[Any, Any, jax.Array]:
        value, gradients = jax.value_and_grad(loss)(p)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(p, updates), state, value

    state, values = optimizer.init(params), []
    for _ in range(40):
        params, state, value = step(params, state)
        values.append(float(value))
    assert values[-1] < 0.6 * values[0]
