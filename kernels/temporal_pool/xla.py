"""Plain JAX for every platform: scores, softmax and mean in float32."""

import jax
import jax.numpy as jnp


def temporal_pool(x: jax.Array, length: jax.Array, weight: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    """See `vidlmm.kernels.temporal_pool`."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    there = jnp.arange(x.shape[1]) < length[:, None]
    seen = jnp.where(there[:, :, None, None], x[:, :, 1:], 0)
    if weight is None or bias is None:
        total = jnp.sum(seen, axis=1, dtype=wide)
        return (total / jnp.maximum(length, 1)[:, None, None]).astype(x.dtype)
    share = shares(seen, there, weight, bias)
    return jnp.einsum("ct,ctph->cph", share, seen, preferred_element_type=wide).astype(x.dtype)


def shares(seen: jax.Array, there: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    """[C, T]: the share of each frame in its clip, 0 after the clip's end. seen: [C, T, P, H]; there: [C, T]."""
    wide = jnp.promote_types(seen.dtype, jnp.float32)
    scores = jnp.einsum("ctph,ph->ct", seen, weight.astype(seen.dtype), preferred_element_type=wide)
    return jax.nn.softmax(jnp.where(there, scores + bias.astype(wide), -1e30), axis=1)
