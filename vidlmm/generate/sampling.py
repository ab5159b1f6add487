"""How the next token is chosen from its scores.

The random number of a token depends on (seed, prompt id, sample, place in the answer) alone, so an answer is the
same whatever else is asked, in whatever order.
"""

import hashlib
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32, UInt32

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
        order, share = nucleus(logits, temperature, top_p)
        # The place where the running sum passes the drawn number; what is not kept has share 0 and stands last.
        reached = jnp.cumsum(share, axis=-1) <= (uniform * jnp.sum(share, axis=-1))[:, None]
        last = jnp.sum(share > 0, axis=-1) - 1
        place = jnp.minimum(jnp.sum(reached, axis=-1), last)
        return jnp.take_along_axis(order, place[:, None], axis=-1)[:, 0].astype(jnp.int32)

    return jax.lax.cond(temperature > 0, drawn, likeliest)


def nucleus(
    logits: Float32[Array, "B V"], temperature: Float32[Array, ""], top_p: Float32[Array, ""]
) -> tuple[Int32[Array, "B V"], Float32[Array, "B V"]]:
    """Tokens from the likeliest on, and the probability of each, 0 for those that are not drawn from.

    Kept is the smallest set of likeliest tokens whose probability reaches `top_p`; it is never empty.
    """
    order = jnp.argsort(logits, axis=-1, descending=True, stable=True).astype(jnp.int32)
    falling = jnp.take_along_axis(logits, order, axis=-1)
    share = jax.nn.softmax((falling - falling[:, :1]) / jnp.where(temperature > 0, temperature, 1.0), axis=-1)
    before = jnp.cumsum(share, axis=-1) - share
    kept = (before < top_p).at[:, 0].set(True)
    return order, jnp.where(kept, share, 0.0)


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
