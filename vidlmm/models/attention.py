"""Plain softmax attention. That of rows, under the rule of trees, is `vidlmm.kernels.tree_attention`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vidlmm.kernels.tree_attention.heads import HIDDEN_SCORE, rows_by_keys, scores_of


def attend(
    q: Float[Array, "B K G Q d"],
    k: Float[Array, "B K S d"],
    v: Float[Array, "B K S d"],
    mask: Bool[Array, "B Q S"] | Bool[Array, "B 1 S"] | None,
    bias: Float[Array, "B K G Q S"] | None = None,
) -> Float[Array, "B K G Q d"]:
    """Plain softmax attention of G query heads on each of K key heads; scores and softmax in float32.

    The query heads of a group stand one below the other as rows of one matrix product: keys are not repeated.
    A bias is added to the scaled scores.
    """
    scores = scores_of(q * q.shape[-1] ** -0.5, k)
    if bias is not None:
        scores = scores + bias.astype(scores.dtype)
    if mask is not None:
        scores = jnp.where(mask[:, None, None], scores, HIDDEN_SCORE)
    return rows_by_keys(jax.nn.softmax(scores, axis=-1).astype(v.dtype), v).astype(q.dtype)
