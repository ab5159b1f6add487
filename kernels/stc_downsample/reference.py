"""The specification: the strided convolution of every clip, and SiLU."""

import jax
import jax.numpy as jnp


def stc_downsample(x: jax.Array, weight: jax.Array, bias: jax.Array, length: jax.Array, padding: int) -> jax.Array:
    """See `vidlmm.kernels.stc_downsample`; in the type of the inputs."""
    clips, frames, tokens, features = x.shape
    side = round(tokens**0.5)
    there = jnp.arange(frames) < length[:, None]
    grid = jnp.where(there[:, :, None, None], x, 0).reshape(clips, frames, side, side, features)
    numbers = ("NDHWC", "DHWIO", "NDHWC")
    z = jax.lax.conv_general_dilated(
        grid, weight, weight.shape[:3], [(padding, padding)] * 3, dimension_numbers=numbers
    )
    out = jax.nn.silu(z + bias)
    return out.reshape(*out.shape[:2], -1, out.shape[4])
