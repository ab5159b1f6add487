"""Cells of pictures and their words: places are where they should be, and a few steps teach something."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from vidlmm.models import CellPair
from vidlmm.spec import PixelSpec, TowerSpec
from vidlmm.train.objectives import cell_sums

TOWER = TowerSpec(image_size=16, patch_size=4, width=16, layers=1, heads=2, mlp=32)


def pair(grid: int = 2) -> CellPair:
    return CellPair(TOWER, PixelSpec(size=16), vocab=8, grid=grid, rngs=nnx.Rngs(0))


def test_cells_come_picture_by_picture_and_row_by_row():
    """Blocks that add nothing leave every patch alone: a cell's vector follows from its own pixels."""
    model = pair()
    for param in (model.tower.position, model.tower.layers.out, model.tower.layers.down):
        param[...] = jnp.zeros_like(param[...])
    shades = np.asarray([[10, 90, 170, 250], [250, 10, 10, 90]], np.uint8)
    frames = np.repeat(np.repeat(shades.reshape(2, 2, 2), 8, 1), 8, 2)[..., None].repeat(3, -1)
    cells = np.asarray(model.images(jnp.asarray(frames)))
    assert cells.shape == (8, 16)
    np.testing.assert_allclose(np.linalg.norm(cells, axis=-1), 1.0, atol=1e-5)
    for shade in (10, 90, 250):
        same = cells[shades.reshape(-1) == shade]
        np.testing.assert_allclose(same, same[:1].repeat(len(same), 0), atol=1e-5)
    assert np.abs(cells[0] - cells[3]).max() > 1e-3


def test_every_word_has_a_vector_of_length_one():
    words = pair().texts()
    assert words.shape == (8, 16)
    np.testing.assert_allclose(jnp.linalg.norm(words, axis=-1), 1.0, atol=1e-5)


def test_a_grid_that_does_not_divide_the_patches_is_refused():
    with pytest.raises(ValueError, match="4 patches a side cannot be split into 3 cells"):
        pair(grid=3)


def test_steps_teach_which_words_belong_to_a_cell():
    model = pair()
    graph, params = nnx.split(model, nnx.Param)
    rng = np.random.default_rng(1)
    which = rng.integers(0, 4, (8, 4))
    frames = np.repeat(np.repeat(which.reshape(8, 2, 2), 8, 1), 8, 2)[..., None] * 60 + np.zeros(3)
    words = np.stack([which.reshape(-1), np.where(which.reshape(-1) < 2, 5, -1)], axis=1)
    arrays = {"frames": jnp.asarray(frames.astype(np.uint8)), "words": jnp.asarray(words.astype(np.int32))}

    def sums(p: nnx.State) -> tuple[jax.Array, jax.Array]:
        loss, weight, more = cell_sums(nnx.merge(graph, p), arrays)
        return loss / weight, more["accuracy"] / weight

    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(p: Any, state: Any) -> tuple[Any, Any, jax.Array]:
        (_, right), gradients = jax.value_and_grad(sums, has_aux=True)(p)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(p, updates), state, right

    state, right = optimizer.init(params), []
    for _ in range(150):
        params, state, share = step(params, state)
        right.append(float(share))
    assert right[0] < 0.2 and right[-1] > 0.95
