"""How the next token is chosen from its scores.

The random number of a token depends on (seed, prompt id, sample, place in the answer) alone, so an answer is the
same whatever else is asked, in whatever order.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32, UInt32

# Tokens among which the nucleus is looked for first: ordering a vocabulary takes longer than a small model.
FEW = 64
COLDEST = 1e-4  # below it float32 scores overflow long before the choice is anything but the likeliest token


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    max_new_tokens: longest answer, in tokens.
    temperature: 0 takes the likeliest token; above, scores are divided by it.
    top_p: share of probability, (0, 1]; the likeliest tokens that together reach it are drawn from
        (Holtzman et al. 2020, nucleus sampling). Without effect at temperature 0.
    seed: seed of the draws, 0 to 2^32 - 1.

    Raises:
        ValueError: a value outside its range.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; an answer has at least 1 token")
        if not (self.temperature == 0 or COLDEST <= self.temperature < math.inf):
            raise ValueError(
                f"temperature is {self.temperature}; expected 0 (the likeliest token) or a number from {COLDEST} on"
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; expected a share of probability above 0 and at most 1")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; expected 0 to {2**32 - 1}")


def choose(
    logits: Float32[Array, "B V"],
    uniform: Float32[Array, " B"],
    temperature: Float32[Array, ""],
    top_p: Float32[Array, ""],
) -> Int32[Array, " B"]:
    """The next token of each row.

    Args:
        logits: scores of the vocabulary.
        uniform: one number in [0, 1) a row; without effect at temperature 0.
        temperature, top_p: see `Sampling`.
    """

    def likeliest() -> Int32[Array, " B"]:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)

    def drawn() -> Int32[Array, " B"]:
        scores = (logits - jnp.max(logits, axis=-1, keepdims=True)) / temperature
        few = _few(scores, top_p)
        token = _drawn(few, uniform, top_p)
        # A row's token comes from the few likeliest wherever these are enough, whatever the other rows need.
        return jax.lax.cond(
            jnp.all(few.whole),
            lambda: token,
            lambda: jnp.where(few.whole, token, _drawn(ordered(scores), uniform, top_p)),
        )

    return jax.lax.cond(temperature > 0, drawn, likeliest)


class Likeliest(NamedTuple):
    """The K likeliest tokens of each row, from the likeliest on, with their probabilities; of equal ones the first of
    the vocabulary comes first. whole: whether the nucleus lies within them."""

    order: Int32[Array, "B K"]
    share: Float32[Array, "B K"]
    whole: Bool[Array, " B"]


def nucleus(found: Likeliest, top_p: Float32[Array, ""]) -> Float32[Array, "B K"]:
    """The probability of each token, 0 for those that are not drawn from.

    Kept is the smallest set of likeliest tokens whose probability reaches `top_p`; it is never empty.
    """
    # Of the one before, not less its own: what comes behind the tokens that reach top_p must never count.
    before = jnp.pad(jnp.cumsum(found.share, axis=-1)[:, :-1], ((0, 0), (1, 0)))
    return jnp.where(before < top_p, found.share, 0.0)


def _drawn(found: Likeliest, uniform: Float32[Array, " B"], top_p: Float32[Array, ""]) -> Int32[Array, " B"]:
    share = nucleus(found, top_p)
    # The place where the running sum passes the drawn number; what is not kept has share 0 and stands last.
    reached = jnp.cumsum(share, axis=-1) <= (uniform * jnp.sum(share, axis=-1))[:, None]
    last = jnp.sum(share > 0, axis=-1) - 1
    place = jnp.minimum(jnp.sum(reached, axis=-1), last)
    return jnp.take_along_axis(found.order, place[:, None], axis=-1)[:, 0]


def ordered(scores: Float32[Array, "B V"]) -> Likeliest:
    """All tokens of the vocabulary."""
    order = jnp.argsort(scores, axis=-1, descending=True, stable=True).astype(jnp.int32)
    share = jnp.take_along_axis(jax.nn.softmax(scores, axis=-1), order, axis=-1)
    return Likeliest(order, share, jnp.ones(len(scores), bool))


def _few(scores: Float32[Array, "B V"], top_p: Float32[Array, ""]) -> Likeliest:
    """One after another until they reach `top_p` in every row, at most `FEW`: without ordering the vocabulary."""
    shares, ids = jax.nn.softmax(scores, axis=-1), jnp.arange(scores.shape[-1], dtype=jnp.int32)
    slots = jnp.arange(min(FEW, scores.shape[-1]))

    def reached(share: Array) -> Bool[Array, " B"]:
        return jnp.cumsum(share, axis=-1)[:, -1] >= top_p

    def more(state: tuple[Array, Array, Array, Array]) -> Bool[Array, ""]:
        count, _, _, share = state
        return (count < len(slots)) & ~jnp.all(reached(share))

    def next_one(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        count, left, order, share = state
        # Two passes; a CPU takes ten times as long for the place of the largest number as for the number.
        top = jnp.max(left, axis=-1, keepdims=True)
        token = jnp.min(jnp.where(left == top, ids, len(ids)), axis=-1, keepdims=True)
        here = slots == count
        own = jnp.sum(jnp.where((ids == token) & (top > -jnp.inf), shares, 0.0), axis=-1, keepdims=True)
        return (
            count + 1,
            jnp.where(ids == token, -jnp.inf, left),
            jnp.where(here, token, order),
            jnp.where(here, own, share),
        )

    none = jnp.zeros((len(scores), len(slots)))
    # Where all of the vocabulary is drawn from, it has to be ordered.
    first = jnp.where(top_p < 1, 0, len(slots))
    _, _, order, share = jax.lax.while_loop(more, next_one, (first, scores, none.astype(jnp.int32), none))
    return Likeliest(order, share, reached(share))


def stream_key(prompt_id: str, sample: int) -> UInt32[np.ndarray, "3"]:
    """What tells an answer's random numbers apart from every other answer's: 64 bits of the id, and the sample."""
    digest = hashlib.sha256(prompt_id.encode()).digest()
    return np.array([*np.frombuffer(digest[:8], "<u4"), sample], np.uint32)


def uniforms(seed: UInt32[Array, ""], keys: UInt32[Array, "B 3"], place: Int32[Array, " B"]) -> Float32[Array, " B"]:
    """The random number in [0, 1) of each row's token.

    Args:
        keys: a row of `stream_key` each.
        place: the token's place in its answer, from 0.
    """

    def one(key: UInt32[Array, "3"], place: Int32[Array, ""]) -> Float32[Array, ""]:
        # Named, because the default generator is a setting that others may change.
        state = jax.random.key(seed, impl="threefry2x32")
        for word in (key[0], key[1], key[2], place):
            state = jax.random.fold_in(state, word)
        return jax.random.uniform(state, (), jnp.float32)

    return jax.vmap(one)(keys, place)
