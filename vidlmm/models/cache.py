"""The decoder's memory of the rows it is writing."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vidlmm.spec.decoder import DecoderSpec


class Cache(NamedTuple):
    """Keys and values of `slots` independent rows.

    segment is 0 where nothing is written yet (or padding was): such places are never seen.
    length counts the places taken in each slot; the next token is written there.
    """

    k: Float[Array, "layers slots K C d"]
    v: Float[Array, "layers slots K C d"]
    position: Int[Array, "slots C"]
    segment: Int[Array, "slots C"]
    length: Int[Array, " slots"]

    @property
    def capacity(self) -> int:
        """Tokens a slot can hold."""
        return self.k.shape[3]


def empty_cache(spec: DecoderSpec, slots: int, length: int, dtype: Any) -> Cache:
    """A cache of `slots` rows of at most `length` tokens, all free."""
    kv = jnp.zeros((spec.layers, slots, spec.kv_heads, length, spec.dim_per_head), dtype)
    ids = jnp.zeros((slots, length), jnp.int32)
    return Cache(kv, kv, ids, ids, jnp.zeros((slots,), jnp.int32))
