"""Products of G query heads on each of K key heads; sums in float32, or float64 where the inputs are.

The query heads of a group stand one below the other as rows of one matrix product: keys are not repeated.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

# What a layer's recomputation policy may keep of an attention: the output and the log of the softmax's sum.
SAVED = "attention"
# Finite, so that a position that sees nothing gives numbers, not NaN: a hidden score, and below any real one yet far
# above a hidden one the least that counts as the largest score of a query.
HIDDEN_SCORE = -1e30
LEAST_TOP = -1e15
# The least sum of a softmax, of a position that sees nothing.
LEAST_SUM = 1e-30


def wide(x: Array) -> Any:
    """The type of sums."""
    return jnp.promote_types(x.dtype, jnp.float32)


def scores_of(q: Float[Array, "B K G Q d"], k: Float[Array, "B K S d"]) -> Float[Array, "B K G Q S"]:
    """q k^T"""
    rows = q.reshape(*q.shape[:2], -1, q.shape[4])
    scores = jnp.einsum("bkqd,bksd->bkqs", rows, k, preferred_element_type=wide(q))
    return scores.reshape(*q.shape[:4], k.shape[2])


def rows_by_keys(weights: Float[Array, "B K G Q S"], v: Float[Array, "B K S d"]) -> Float[Array, "B K G Q d"]:
    """weights v"""
    rows = weights.reshape(*weights.shape[:2], -1, weights.shape[4])
    out = jnp.einsum("bkqs,bksd->bkqd", rows, v, preferred_element_type=wide(v))
    return out.reshape(*weights.shape[:4], v.shape[3])


def keys_by_rows(weights: Float[Array, "B K G Q S"], x: Float[Array, "B K G Q d"]) -> Float[Array, "B K S d"]:
    """weights^T x"""
    rows = weights.reshape(*weights.shape[:2], -1, weights.shape[4])
    x = x.reshape(*x.shape[:2], -1, x.shape[4])
    return jnp.einsum("bkqs,bkqd->bksd", rows, x, preferred_element_type=wide(x))
