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


def temporal_attend(
    x: jax.Array, length: jax.Array, position: jax.Array, ask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """See `vidlmm.kernels.temporal_attend`."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    there = jnp.arange(x.shape[1]) < length[:, None]
    seen = jnp.where(there[:, :, None, None], x, 0)
    z = seen + position.astype(x.dtype)[:, None]
    scores = jnp.einsum("cenh,ctnh->cent", ask, z, preferred_element_type=wide)
    share = jax.nn.softmax(jnp.where(there[:, None, None], scores, -1e30), axis=3)
    # The shares of a clip without frames are no zeros.
    share = jnp.where(there[:, None, None], share, 0).astype(x.dtype)
    weighted = jnp.einsum("cent,ctnh->cenh", share, z, preferred_element_type=wide)
    mean = jnp.sum(seen, axis=1, dtype=wide) / jnp.maximum(length, 1)[:, None, None]
    return weighted.astype(x.dtype), mean.astype(x.dtype)
