"""Scores of tokens into those of whole answers: each answer is a branch of a tree, the two of a pair beside each other.

What the branches of a tree share stands in its prefix, and that may be the first words of both answers. So an answer's
scored tokens are those of its branch and those of the prefix.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vidlmm.losses.token_logps import TokenLogps


class AnswerSums(NamedTuple):
    """Sums over the scored tokens of each answer; segment s and branch k of row b are [b, s - 1, k - 1].

    tokens: their number. The others: see `TokenLogps`.
    first: of logp over the tokens that have fewer than `shortest` before them; `shortest` is the number of tokens of
        the shortest answer that it is compared with.
    """

    tokens: Float[Array, "B S K"]
    logp: Float[Array, "B S K"]
    first: Float[Array, "B S K"]
    entropy: Float[Array, "B S K"]
    mean_logit: Float[Array, "B S K"]
    hit: Float[Array, "B S K"]
    log_squares: Float[Array, "B S K"]


def answer_sums(
    scores: TokenLogps,
    scored: Bool[Array, "B L"],
    segment: Int[Array, "B L"],
    branch: Int[Array, "B L"],
    *,
    segments: int,
    branches: int,
    compared: int | None = None,
) -> AnswerSums:
    """The sums of each answer of a batch of trees.

    Args:
        scores: of each place, [B, L].
        segments: trees of a row. branches: answers of a tree.
        compared: so many answers beside one another are compared: 2 of pairs; None is all of a tree.
    """
    # A masked product and no scatter, whose order of addition is not always the same.
    tree = segment[..., None] == jnp.arange(1, segments + 1)
    answer = (branch[..., None] == jnp.arange(1, branches + 1)) | (branch[..., None] == 0)
    own = (scored[..., None, None] & tree[..., :, None] & answer[..., None, :]).astype(scores.logp.dtype)

    def total(values: Float[Array, "B L"]) -> Float[Array, "B S K"]:
        return jnp.einsum("bl,blsk->bsk", values, own, precision="highest")

    tokens = jnp.sum(own, axis=1)
    beside = tokens.reshape(*tokens.shape[:2], -1, compared or branches)
    shortest = jnp.broadcast_to(jnp.min(beside, axis=-1, keepdims=True), beside.shape).reshape(tokens.shape)
    before = jnp.cumsum(own, axis=1) - own
    first = jnp.einsum("bl,blsk->bsk", scores.logp, own * (before < shortest[:, None]), precision="highest")
    return AnswerSums(tokens, total(scores.logp), first, *map(total, scores[1:]))
