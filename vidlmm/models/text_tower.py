"""A small text encoder, the other half of a SigLIP pair."""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from vidlmm.models.encoder import Encoder
from vidlmm.models.norms import layer_norm
from vidlmm.models.params import Maker


@dataclass(frozen=True)
class TextSpec:
    """Sizes of the text encoder. pool: "mean" over the tokens or the "last" of them."""

    vocab: int
    width: int
    layers: int = 3
    heads: int = 4
    mlp: int = 512
    length: int = 64
    pool: Literal["mean", "last"] = "mean"
    norm_eps: float = 1e-6


class TextTower(nnx.Module):
    """Token ids into one vector a text (pre-LN blocks, learned positions, final norm)."""

    def __init__(self, spec: TextSpec, *, rngs: nnx.Rngs, dtype: Any = jnp.float32, param_dtype: Any = jnp.float32):
        make = Maker(rngs, param_dtype)
        self.embed = make.normal((spec.vocab, spec.width), ("vocab", "embed"), spec.width**-0.5)
        self.position = make.normal((spec.length, spec.width), (None, "embed"), spec.width**-0.5)
        self.layers = Encoder(
            spec.width,
            spec.layers,
            spec.heads,
            spec.mlp,
            activation="gelu_tanh",
            norm_eps=spec.norm_eps,
            rngs=rngs,
            dtype=dtype,
            param_dtype=param_dtype,
        )
        self.norm_scale = make.ones((spec.width,), ("embed",))
        self.norm_bias = make.zeros((spec.width,), ("embed",))
        self.spec = spec
        self.dtype = dtype

    def __call__(self, ids: Int[Array, "B l"], lengths: Int[Array, " B"]) -> Float[Array, "B D"]:
        """The first `lengths[b]` ids of row b are its text; what follows is padding and changes nothing.

        Raises:
            ValueError: the rows are longer than the learned positions.
        """
        if ids.shape[1] > self.spec.length:
            raise ValueError(f"texts of {ids.shape[1]} ids, but the text tower knows {self.spec.length} positions")
        there = jnp.arange(ids.shape[1])[None] < lengths[:, None]
        x = jnp.take(self.embed[...], ids, axis=0, mode="clip") + self.position[...][: ids.shape[1]]
        x = self.layers(x.astype(self.dtype), there[:, None])
        x = layer_norm(x, self.norm_scale[...], self.norm_bias[...], self.spec.norm_eps)
        if self.spec.pool == "last":
            return jnp.take_along_axis(x, jnp.maximum(lengths - 1, 0)[:, None, None], axis=1)[:, 0]
        count = jnp.maximum(lengths, 1).astype(x.dtype)
        return jnp.sum(jnp.where(there[..., None], x, 0), axis=1) / count[:, None]
