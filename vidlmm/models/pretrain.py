"""A SigLIP pair: the vision tower beside a text tower, to give the tower its first features."""

import math
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from vidlmm.models.attention import attend
from vidlmm.models.norms import gelu_tanh, layer_norm
from vidlmm.models.params import Maker
from vidlmm.models.text_tower import TextSpec, TextTower
from vidlmm.models.tower import Tower
from vidlmm.spec.pixels import PixelSpec
from vidlmm.spec.tower import TowerSpec


class AttentionPool(nnx.Module):
    """SigLIP's pooling head: a learned query looks at all patches, then an MLP is added."""

    def __init__(self, tower: TowerSpec, *, rngs: nnx.Rngs, dtype: Any, param_dtype: Any):
        make = Maker(rngs, param_dtype)
        width, heads, mlp = tower.width, tower.heads, tower.mlp
        depth = width // heads
        self.norm0_scale = make.ones((width,), ("embed",))
        self.norm0_bias = make.zeros((width,), ("embed",))
        self.query = make.normal((heads, depth), ("heads", None), 1.0)
        self.kv = make.normal((width, heads, 2 * depth), ("embed", "heads", None), width**-0.5)
        self.out = make.normal((heads, depth, width), ("heads", None, "embed"), width**-0.5)
        self.norm1_scale = make.ones((width,), ("embed",))
        self.norm1_bias = make.zeros((width,), ("embed",))
        self.up = make.normal((width, mlp), ("embed", "mlp"), width**-0.5)
        self.down = make.normal((mlp, width), ("mlp", "embed"), mlp**-0.5)
        self.norm_eps = tower.norm_eps
        self.dtype = dtype

    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B D"]:
        """One vector a picture from the features of its patches."""
        x = layer_norm(x, self.norm0_scale[...], self.norm0_bias[...], self.norm_eps)
        k, v = jnp.split(jnp.einsum("bnd,dhc->bhnc", x, self.kv[...].astype(self.dtype)), 2, axis=-1)
        q = jnp.broadcast_to(self.query[...].astype(self.dtype)[None, :, None, None], (*k.shape[:2], 1, 1, k.shape[3]))
        found = attend(q, k, v, None)[:, :, 0, 0]
        found = jnp.einsum("bhc,hcd->bd", found, self.out[...].astype(self.dtype))
        h = layer_norm(found, self.norm1_scale[...], self.norm1_bias[...], self.norm_eps)
        return found + gelu_tanh(h @ self.up[...].astype(self.dtype)) @ self.down[...].astype(self.dtype)


class SiglipPair(nnx.Module):
    """Pictures and texts into one space (Zhai et al., "Sigmoid loss for language image pre-training").

    `tower` is the class that VideoLM uses: its parameters are taken over as they are.
    log_scale and bias are the loss's learned temperature t' and bias b, started at log 10 and -10 (section 3.2).
    """

    def __init__(
        self,
        tower: TowerSpec,
        pixels: PixelSpec,
        text: TextSpec,
        *,
        rngs: nnx.Rngs,
        dtype: Any = jnp.float32,
        param_dtype: Any = jnp.float32,
    ):
        if text.width != tower.width:
            raise ValueError(f"the text tower is {text.width} wide, the vision tower {tower.width}: make them equal")
        make = Maker(rngs, param_dtype)
        self.tower = Tower(tower, pixels, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.pool = AttentionPool(tower, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.text = TextTower(text, rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.log_scale = make.constant(math.log(10.0))
        self.bias = make.constant(-10.0)

    def images(self, frames: UInt8[Array, "B H W 3"] | Float[Array, "B H W 3"]) -> Float[Array, "B D"]:
        """Unit vectors of pictures."""
        return unit(self.pool(self.tower(frames)))

    def texts(self, ids: Int[Array, "B l"], lengths: Int[Array, " B"]) -> Float[Array, "B D"]:
        """Unit vectors of texts; see TextTower for `lengths`."""
        return unit(self.text(ids, lengths))


def unit(x: Float[Array, "B D"]) -> Float[Array, "B D"]:
    """Rows of length one, in float32."""
    x = x.astype(jnp.float32)
    return x / jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-12)
