"""A tower beside the words of its picture's cells: SigLIP for places, not only for whole pictures."""

import math
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from vidlmm.models.norms import gelu_tanh
from vidlmm.models.params import Maker
from vidlmm.models.pretrain import unit
from vidlmm.models.tower import Tower
from vidlmm.spec.pixels import PixelSpec
from vidlmm.spec.tower import TowerSpec


class CellPair(nnx.Module):
    """Cells of pictures and the words that say what is in them, in one space.

    A cell is a square of patches; its feature is the patches' mean, as pooling connectors take it. The text side
    is small on purpose (the mean of word embeddings and an MLP), so that the tower does the work. `tower` is the
    class that VideoLM uses: its parameters are taken over as they are.
    """

    def __init__(
        self,
        tower: TowerSpec,
        pixels: PixelSpec,
        vocab: int,
        grid: int,
        *,
        rngs: nnx.Rngs,
        dtype: Any = jnp.float32,
        param_dtype: Any = jnp.float32,
    ):
        if tower.grid % grid:
            raise ValueError(f"{tower.grid} patches a side cannot be split into {grid} cells; choose a divisor")
        make = Maker(rngs, param_dtype)
        width = tower.width
        self.tower = Tower(tower, pixels, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.project = make.normal((width, width), ("embed", None), width**-0.5)
        self.words = make.normal((vocab, width), ("vocab", "embed"), 1.0)
        self.up = make.normal((width, 2 * width), ("embed", "mlp"), width**-0.5)
        self.down = make.normal((2 * width, width), ("mlp", "embed"), (2 * width) ** -0.5)
        self.log_scale = make.constant(math.log(10.0))
        self.bias = make.constant(-6.0)
        self.grid = grid
        self.dtype = dtype

    def images(self, frames: UInt8[Array, "B H W 3"], cells: Int[Array, "B c"]) -> Float[Array, "n D"]:
        """Unit vectors of the named cells (row by row over the grid) of pictures, picture by picture."""
        features = self.tower(frames)
        side = math.isqrt(features.shape[1]) // self.grid
        pooled = features.reshape(-1, self.grid, side, self.grid, side, features.shape[-1]).mean((2, 4))
        pooled = pooled.reshape(frames.shape[0], self.grid**2, -1)
        chosen = jnp.take_along_axis(pooled, cells[..., None], axis=1).reshape(-1, pooled.shape[-1])
        return unit(chosen @ self.project[...].astype(self.dtype))

    def texts(self, words: Int[Array, "n w"]) -> Float[Array, "n D"]:
        """Unit vectors of sets of words: ids, and -1 where a set has fewer."""
        there = (words >= 0)[..., None]
        summed = jnp.sum(jnp.where(there, self.words[...][jnp.maximum(words, 0)], 0), axis=1)
        mean = (summed / jnp.sqrt(jnp.maximum(jnp.sum(there, axis=1), 1))).astype(self.dtype)
        return unit(mean + gelu_tanh(mean @ self.up[...].astype(self.dtype)) @ self.down[...].astype(self.dtype))
