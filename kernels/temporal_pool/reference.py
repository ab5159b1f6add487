"""The specifications: shares of frames, and the sum of frames by them."""

import jax
import jax.numpy as jnp


def temporal_pool(x: jax.Array, length: jax.Array, weight: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    """See `vidlmm.kernels.temporal_pool`; in the type of the inputs."""
    there = jnp.arange(x.shape[1]) < length[:, None]
    seen = jnp.where(there[:, :, None, None], x[:, :, 1:], 0)
    if weight is None or bias is None:
        share = there / jnp.maximum(length, 1)[:, None]
    else:
        scores = jnp.einsum("ctph,ph->ct", seen, weight) + bias
        share = jax.nn.softmax(jnp.where(there, scores, -1e30), axis=1)
    return jnp.einsum("ct,ctph->cph", share.astype(x.dtype), seen)


def temporal_attend(
    x: jax.Array, length: jax.Array, position: jax.Array, ask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """See `vidlmm.kernels.temporal_attend`; in the type of the inputs."""
    there = jnp.arange(x.shape[1]) < length[:, None]
    seen = jnp.where(there[:, :, None, None], x, 0)
    z = seen + position[: x.shape[1], None]
    scores = jnp.einsum("cenh,ctnh->cent", ask, z)
    share = jax.nn.softmax(jnp.where(there[:, None, None], scores, -1e30), axis=3) * there[:, None, None]
    weighted = jnp.einsum("cent,ctnh->cenh", share.astype(x.dtype), z)
    return weighted, jnp.sum(seen, axis=1) / jnp.maximum(length, 1).astype(x.dtype)[:, None, None]
