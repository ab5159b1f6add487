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


def longer(cache: Cache, more: int) -> Cache:
    """The cache with `more` free places at the end of each slot."""
    k, v = (jnp.pad(t, [(0, 0)] * 3 + [(0, more), (0, 0)]) for t in (cache.k, cache.v))
    position, segment = (jnp.pad(ids, [(0, 0), (0, more)]) for ids in (cache.position, cache.segment))
    return Cache(k, v, position, segment, cache.length)
