"""A tower beside the words of its picture's cells: SigLIP for places, not only for whole pictures."""

import math
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt8

from vidlmm.models.params import Maker
from vidlmm.models.pretrain import unit
from vidlmm.models.tower import Tower
from vidlmm.spec.pixels import PixelSpec
from vidlmm.spec.tower import TowerSpec


class CellPair(nnx.Module):
    """Cells of pictures and the words that may be said of them, in one space.

    A cell is a square of patches; its feature is the patches' mean, as pooling connectors take it. The text side
    is one vector a word, so that the tower does the work. `tower` is the class that VideoLM uses: its parameters
    are taken over as they are. log_scale and bias are the loss's learned temperature and bias.
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
        self.log_scale = make.constant(math.log(10.0))
        self.bias = make.constant(-4.0)
        self.grid = grid
        self.dtype = dtype

    def images(self, frames: UInt8[Array, "B H W 3"]) -> Float[Array, "n D"]:
        """Unit vectors of the cells of pictures, picture by picture and row by row."""
        features = self.tower(frames)
        side = math.isqrt(features.shape[1]) // self.grid
        pooled = features.reshape(-1, self.grid, side, self.grid, side, features.shape[-1]).mean((2, 4))
        return unit(pooled.reshape(-1, pooled.shape[-1]) @ self.project[...].astype(self.dtype))

    def texts(self) -> Float[Array, "v D"]:
        """Unit vectors of all words of the vocabulary."""
        return unit(self.words[...])
