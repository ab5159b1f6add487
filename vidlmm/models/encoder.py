"""A stack of pre-LN transformer blocks, as the vision tower and the text tower run it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from vidlmm.models.attention import attend
from vidlmm.models.linear import kept, linear
from vidlmm.models.norms import ACTIVATIONS, layer_norm
from vidlmm.models.params import Maker, layer_arrays
from vidlmm.spec.tower import Activation


class Encoder(nnx.Module):
    """Blocks of bidirectional attention and a two-layer MLP, biases everywhere, stacked on a leading axis.

    The output is the raw sum after the last block: a final norm is the caller's affair.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        mlp: int,
        *,
        activation: Activation,
        norm_eps: float,
        rngs: nnx.Rngs,
        dtype: Any,
        param_dtype: Any,
        remat: bool = False,
    ):
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}; choose heads that divide it")
        make = Maker(rngs, param_dtype)
        depth = width // heads
        out_std = (2 * layers) ** -0.5
        self.norm1_scale = make.ones((layers, width), ("layers", "embed"))
        self.norm1_bias = make.zeros((layers, width), ("layers", "embed"))
        # Query, key and value of a head stand side by side, so that a split over heads cuts no projection.
        self.qkv = make.normal((layers, width, heads, 3 * depth), ("layers", "embed", "heads", None), width**-0.5)
        self.qkv_bias = make.zeros((layers, heads, 3 * depth), ("layers", "heads", None))
        self.out = make.normal((layers, heads, depth, width), ("layers", "heads", None, "embed"), out_std * width**-0.5)
        self.out_bias = make.zeros((layers, width), ("layers", "embed"))
        self.norm2_scale = make.ones((layers, width), ("layers", "embed"))
        self.norm2_bias = make.zeros((layers, width), ("layers", "embed"))
        self.up = make.normal((layers, width, mlp), ("layers", "embed", "mlp"), width**-0.5)
        self.up_bias = make.zeros((layers, mlp), ("layers", "mlp"))
        self.down = make.normal((layers, mlp, width), ("layers", "mlp", "embed"), out_std * mlp**-0.5)
        self.down_bias = make.zeros((layers, width), ("layers", "embed"))
        self.activation: Activation = activation
        self.norm_eps = norm_eps
        self.dtype = dtype
        self.remat = remat

    def __call__(self, x: Float[Array, "B N D"], mask: Bool[Array, "B 1 N"] | None = None) -> Float[Array, "B N D"]:
        """Every position sees every other that `mask` allows (None: all)."""

        def block(x: Array, p: dict[str, Array]) -> tuple[Array, None]:
            h = layer_norm(x, p["norm1_scale"], p["norm1_bias"], self.norm_eps)
            x = x + self_attention(h, p, mask)
            h = layer_norm(x, p["norm2_scale"], p["norm2_bias"], self.norm_eps)
            h = ACTIVATIONS[self.activation](linear(h, p["up"]) + p["up_bias"])
            return x + linear(h, p["down"]) + p["down_bias"], None

        return jax.lax.scan(kept(block, self.remat), x.astype(self.dtype), layer_arrays(self, self.dtype))[0]


def self_attention(
    x: Float[Array, "B N D"], p: dict[str, Array], mask: Bool[Array, "B 1 N"] | None
) -> Float[Array, "B N D"]:
    """Multi-head attention of all positions on all, with the parameters of one layer."""
    qkv = (linear(x, p["qkv"]) + p["qkv_bias"]).transpose(0, 2, 1, 3)
    q, k, v = jnp.split(qkv, 3, axis=-1)
    out = attend(q[:, :, None], k, v, mask)[:, :, 0].transpose(0, 2, 1, 3).reshape(x.shape)
    return linear(out, p["out"].reshape(-1, x.shape[2])) + p["out_bias"]
