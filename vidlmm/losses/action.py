"""What LLaVAction adds to the loss of its text (LLaVAction language_model/llava_qwen.py:213-304).

With the states s of the embedding and after each of L layers, the last one normed, and n of them used,

    0.1 / (n + 1) * sum over used s of 0.5 CE(verb) + 0.5 CE(noun) + 0.1 CE(action)

is added: of `last_layer` or `first_layer` (the embedding) one state is used, else all L + 1. The two kinds of
distillation also add

    0.1 / (L + 1) * sum over the other s of KL(softmax(teacher) || softmax(s))

over the channels of the states themselves; the teacher is the last state, or the embedding when reversed.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int

SHARE = 0.1  # of either term beside the loss of the text
WEIGHTS = {"verb": 0.5, "noun": 0.5, "action": 0.1}
TRAININGS = ("last_layer", "first_layer", "all_layers", "distillation", "reverse_distillation")

Heads = Callable[[Float[Array, "S B K D"]], Mapping[str, Float[Array, "S B C"]]]


def action_loss(
    states: Float[Array, "S B K D"],
    heads: Heads,
    classes: Int[Array, "B T"],
    shown: Bool[Array, " B"],
    training: str,
) -> Float32[Array, ""]:
    """What is added to the loss of the text; `B` rows of one clip each.

    Args:
        states: of the embedding and after each layer, at the K places of each clip.
        heads: states into scores by kind, in the order of `classes`.
        classes: the right class of each kind; a row whose first is below 0 is left out of the cross entropies.
        shown: rows that have a clip at all; others are left out of everything.
        training: the states that learn, one of `TRAININGS`.

    Raises:
        ValueError: a kind without a weight, or an unknown training.
    """
    if training not in TRAININGS:
        raise ValueError(f"training of the action heads is {training!r}; choose one of {', '.join(TRAININGS)}")
    used = {"last_layer": states[-1:], "first_layer": states[:1]}.get(training, states)
    loss = supervised(heads(used), classes, shown)
    if training == "distillation":
        loss += distilled(states[:-1], states[-1], shown)
    elif training == "reverse_distillation":
        loss += distilled(states[1:], states[0], shown)
    return SHARE * loss


def supervised(
    scores: Mapping[str, Float[Array, "n B C"]], classes: Int[Array, "B T"], shown: Bool[Array, " B"]
) -> Float32[Array, ""]:
    """Sum over n states of the weighted mean cross entropies, over n + 1; 0 where no row counts.

    Raises:
        ValueError: a kind without a weight.
    """
    unknown = sorted(set(scores) - set(WEIGHTS))
    if unknown:
        raise ValueError(f"no weight is known for the kind(s) {unknown}; known are {sorted(WEIGHTS)}")
    counts = shown & (classes[:, 0] >= 0)
    total = jnp.zeros((), jnp.float32)
    for (name, logits), ids in zip(scores.items(), classes.T, strict=True):
        logp = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
        own = jnp.take_along_axis(logp, jnp.maximum(ids, 0)[None, :, None], axis=-1)[..., 0]
        total -= WEIGHTS[name] * jnp.sum(_mean(own, counts))
    states = next(iter(scores.values())).shape[0]
    return total / (states + 1)


def distilled(
    students: Float[Array, "L B K D"], teacher: Float[Array, "B K D"], shown: Bool[Array, " B"]
) -> Float32[Array, ""]:
    """Sum over L students of the mean divergence from the teacher, over L + 1. The teacher learns nothing."""
    wanted = jax.nn.log_softmax(jax.lax.stop_gradient(teacher).astype(jnp.float32), axis=-1)
    found = jax.nn.log_softmax(students.astype(jnp.float32), axis=-1)
    apart = jnp.sum(jnp.exp(wanted) * (wanted - found), axis=(-1, -2))
    return jnp.sum(_mean(apart, shown)) / (students.shape[0] + 1)


def _mean(values: Float[Array, "n B"], counts: Bool[Array, " B"]) -> Float[Array, " n"]:
    """Means over the rows that count."""
    return jnp.sum(jnp.where(counts, values, 0), axis=1) / jnp.maximum(jnp.sum(counts), 1)
