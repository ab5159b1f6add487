"""The loss of a batch of pairs: the answers of a row's pairs are branches of one tree, and the reference's numbers come
with them.
"""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vidlmm.losses import (
    AnswerSums,
    Preference,
    answer_sums,
    make_pairs,
    preference_loss,
    preference_metrics,
)
from vidlmm.train.token_scores import token_scores

Arrays = Mapping[str, jax.Array]
Sums = tuple[Float[Array, ""], Float[Array, ""], dict[str, Float[Array, "..."]]]

# Beside the arrays of a batch of rows of one tree each. pair: int32[B, P], the number of the pair whose chosen answer
# is branch 2p + 1 of the row's tree and whose rejected one is branch 2p + 2, -1 where there is none. reference:
# float32[B, P, 2, 2], of both answers `logp` and `first` of the reference model (`vidlmm.losses.AnswerSums`); 0 where
# the loss needs none.
PAIR_ARRAYS = ("pair", "reference")


def preference_sums(settings: Preference, *, chunk: int, groups: int = 1) -> Callable[[Any, Arrays], Sums]:
    """The objective "preference": (model, arrays) -> (loss * pairs, pairs, metrics * pairs).

    `accuracy` is rewards/accuracies. chunk, groups: see `vidlmm.train.objectives.loss_of`.
    """

    def sums(model: Any, arrays: Arrays) -> Sums:
        reference = arrays["reference"]
        answers = 2 * reference.shape[1]
        found = tree_sums(model, arrays, segments=1, branches=answers, compared=2, chunk=chunk, groups=groups)
        flat = AnswerSums(*(x.reshape(-1, 2) for x in found))
        # What a tree's prefix scores belongs to no pair that the tree does not hold.
        flat = flat._replace(tokens=jnp.where(arrays["pair"].reshape(-1, 1) >= 0, flat.tokens, 0))
        logp, first = (reference[..., k].reshape(-1, 2) for k in (0, 1))
        pairs = make_pairs(flat, logp, first, settings)
        metrics = preference_metrics(flat, pairs, settings)
        metrics["accuracy"] = metrics["rewards/accuracies"]
        count = jnp.sum(pairs.real).astype(flat.logp.dtype)
        return preference_loss(pairs, settings) * count, count, {name: x * count for name, x in metrics.items()}

    return sums


def tree_sums(
    model: Any,
    arrays: Arrays,
    *,
    segments: int,
    branches: int,
    chunk: int,
    groups: int = 1,
    compared: int | None = None,
) -> AnswerSums:
    """The log-probability of each answer of a batch of trees and what goes with it, [B, S, K] each (`answer_sums`)."""
    hidden = model.hidden(SimpleNamespace(**arrays), None, groups)
    scored = arrays["weight"] > 0
    scores = token_scores(hidden, model.head_matrix(), arrays["target"], scored, chunk)
    return answer_sums(
        scores, scored, arrays["segment"], arrays["branch"], segments=segments, branches=branches, compared=compared
    )
