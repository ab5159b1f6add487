"""The specification: all scores, the rule for every pair, zeros where nothing is seen."""

import jax
import jax.numpy as jnp

from vidlmm.kernels.tree_attention.rule import Ids, visible


def tree_attention(q: jax.Array, k: jax.Array, v: jax.Array, queries: Ids, keys: Ids) -> jax.Array:
    """See `vidlmm.kernels.tree_attention`; in the type of the inputs."""
    mask = visible(queries, keys)[:, None, None]
    seen = jnp.any(mask, axis=-1, keepdims=True)
    scores = jnp.einsum("bkgqd,bksd->bkgqs", q, k) * q.shape[-1] ** -0.5
    # Where nothing is seen the softmax is over everything, so that it is finite, and dropped.
    weights = jax.nn.softmax(jnp.where(mask | ~seen, scores, -jnp.inf), axis=-1)
    return jnp.where(seen, jnp.einsum("bkgqs,bksd->bkgqd", weights, v), 0)
