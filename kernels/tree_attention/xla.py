"""Plain JAX for every platform: chunk by chunk, and only pairs of chunks in which somebody may see somebody.

No L x L array is ever held. The outputs of a query's pairs are merged as they come (Milakov and Gimelshein, Online
normalizer calculation for softmax); the backward pass forms the weights again from the scores and the log of their
sum, which belongs to all pairs together (Dao et al., FlashAttention, section 3.1).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int, Shaped

from vidlmm.kernels.tree_attention.heads import (
    HIDDEN_SCORE,
    LEAST_SUM,
    LEAST_TOP,
    SAVED,
    keys_by_rows,
    rows_by_keys,
    scores_of,
    wide,
)
from vidlmm.kernels.tree_attention.rule import Ids, may_meet, spans, visible

# Positions of a chunk: a multiple of BLOCK that cuts a row into at most CHUNKS parts, but never more than CHUNK. On a
# CPU they are few: a pair's scores stay in the cache, and fewer of them are hidden.
BLOCK = 64
CHUNKS = 8
CHUNK = 512
CPU_CHUNK = 64
# What the loop over pairs of chunks is called in compiled programs, which do not tell how often it turns.
PAIRS = "chunk_pairs"


@jax.custom_vjp
def tree_attention(
    q: Float[Array, "B K G Q d"],
    k: Float[Array, "B K S d"],
    v: Float[Array, "B K S d"],
    queries: Ids,
    keys: Ids,
) -> Float[Array, "B K G Q d"]:
    """See `vidlmm.kernels.tree_attention`. Neither values nor gradients ever hold more than the scores of one pair of
    chunks."""
    return _forward(q, k, v, queries, keys)[0]


def _forward(q: Array, k: Array, v: Array, queries: Ids, keys: Ids) -> tuple[Array, tuple]:
    out, log_sum = _by_platform(_values, q, k, v, queries, keys)
    out, log_sum = checkpoint_name(out, SAVED), checkpoint_name(log_sum, SAVED)
    return out, (q, k, v, queries, keys, out, log_sum)


def _backward(saved: tuple, d_out: Array) -> tuple[Array, Array, Array, None, None]:
    q, k, v, queries, keys, out, log_sum = saved
    return *_by_platform(_gradients, q, k, v, queries, keys, out, log_sum, d_out), None, None


tree_attention.defvjp(_forward, _backward)


def _by_platform(run: Callable[..., Any], *given: Any) -> Any:
    """`run` with the largest chunk of the platform that the program is compiled for."""
    q, k = given[:2]
    if all(_cut(length, CPU_CHUNK) == _cut(length, CHUNK) for length in (q.shape[3], k.shape[2])):
        return run(CHUNK, *given)
    return jax.lax.platform_dependent(*given, cpu=partial(run, CPU_CHUNK), default=partial(run, CHUNK))


def _values(most: int, q: Array, k: Array, v: Array, queries: Ids, keys: Ids) -> tuple[Array, Array]:
    """The outputs, and of each query the log of its weights' sum."""
    q_ids, k_ids = _ids_in_chunks(queries, most), _ids_in_chunks(keys, most)
    rows, ks, vs = _in_chunks(q * q.shape[-1] ** -0.5, 3, most), _in_chunks(k, 2, most), _in_chunks(v, 2, most)
    kind = wide(q)
    pairs = _pairs(q_ids, k_ids)

    def one(number: Array, sums: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        i, j = pairs.at(number)
        out, top, total = (_own(x, i) for x in sums)
        mask = visible(_at(q_ids, i), _at(k_ids, j))[:, None, None]
        scores = jnp.where(mask, scores_of(_own(rows, i), _own(ks, j)), HIDDEN_SCORE)
        new_top = jnp.maximum(top, jnp.max(scores, axis=-1))
        weights = jnp.exp(scores - new_top[..., None])
        fade = jnp.exp(top - new_top)
        new_total = total * fade + jnp.sum(weights, axis=-1)
        new_out = out * fade[..., None] + rows_by_keys(weights.astype(v.dtype), _own(vs, j))
        return (
            sums[0].at[i].set(new_out[0]),
            sums[1].at[i].set(new_top[0]),
            sums[2].at[i].set(new_total[0]),
        )

    start = (
        jnp.zeros(rows.shape, kind),
        jnp.full(rows.shape[:-1], LEAST_TOP, kind),
        jnp.zeros(rows.shape[:-1], kind),
    )
    with jax.named_scope(PAIRS):
        out, top, total = jax.lax.fori_loop(0, pairs.count, one, start)
    total = jnp.maximum(total, LEAST_SUM)
    length = q.shape[3]
    return _joined(out / total[..., None], 3, length).astype(q.dtype), _joined(top + jnp.log(total), 3, length)


def _gradients(
    most: int, q: Array, k: Array, v: Array, queries: Ids, keys: Ids, out: Array, log_sum: Array, d_out: Array
) -> tuple[Array, Array, Array]:
    q_ids, k_ids = _ids_in_chunks(queries, most), _ids_in_chunks(keys, most)
    scale, kind = q.shape[-1] ** -0.5, wide(q)
    # The sum over keys of weight * d_weight, which the softmax's derivative subtracts.
    inner = jnp.sum(d_out.astype(kind) * out.astype(kind), axis=-1)
    rows, pulls, log_sums, inners = (_in_chunks(x, 3, most) for x in (q * scale, d_out, log_sum, inner))
    ks, vs = _in_chunks(k, 2, most), _in_chunks(v, 2, most)
    pairs = _pairs(q_ids, k_ids)

    def one(number: Array, sums: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        i, j = pairs.at(number)
        d_q, d_k, d_v = sums
        query, pull, key = _own(rows, i), _own(pulls, i), _own(ks, j)
        mask = visible(_at(q_ids, i), _at(k_ids, j))[:, None, None]
        weights = jnp.where(mask, jnp.exp(scores_of(query, key) - _own(log_sums, i)[..., None]), 0)
        d_scores = (weights * (scores_of(pull, _own(vs, j)) - _own(inners, i)[..., None])).astype(k.dtype)
        return (
            d_q.at[i].add(rows_by_keys(d_scores, key)[0]),
            d_k.at[j].add(keys_by_rows(d_scores, query)[0]),
            d_v.at[j].add(keys_by_rows(weights.astype(v.dtype), pull)[0]),
        )

    start = tuple(jnp.zeros(x.shape, kind) for x in (rows, ks, vs))
    with jax.named_scope(PAIRS):
        d_q, d_k, d_v = jax.lax.fori_loop(0, pairs.count, one, start)
    d_q = (_joined(d_q, 3, q.shape[3]) * scale).astype(q.dtype)
    return d_q, _joined(d_k, 2, k.shape[2]).astype(k.dtype), _joined(d_v, 2, v.shape[2]).astype(v.dtype)


def chunk_pairs(queries: Ids, keys: Ids, platform: str) -> Int[Array, ""]:
    """How many pairs of chunks `tree_attention` goes through for these positions: what it costs, in its own unit.

    platform: "cpu", or another, as JAX names it.
    """
    most = CPU_CHUNK if platform == "cpu" else CHUNK
    return _pairs(_ids_in_chunks(queries, most), _ids_in_chunks(keys, most)).count


# A chunk of a row: its number, and that of the row.
_Chunk = tuple[Int[Array, ""], Int[Array, ""]]


class _Pairs(NamedTuple):
    """Chunks of queries and of keys that meet in a row; what stands behind the first `count` is nothing."""

    query: Int[Array, " n"]
    key: Int[Array, " n"]
    row: Int[Array, " n"]
    count: Int[Array, ""]

    def at(self, number: Int[Array, ""]) -> tuple[_Chunk, _Chunk]:
        row = self.row[number]
        return (self.query[number], row), (self.key[number], row)


def _pairs(queries: Ids, keys: Ids) -> _Pairs:
    """The pairs of chunks of a row in which a query may see a key, for all rows.

    Judged by the least and the largest ids of each chunk: a pair too many only costs time.
    """
    q, k = spans(*queries), spans(*keys)
    # [chunks of queries, chunks of keys, B]
    seen = may_meet(q.at((slice(None), None)), k.at(None))
    query, key, row = jnp.nonzero(seen, size=seen.size, fill_value=0)
    return _Pairs(query, key, row, jnp.sum(seen))


def _cut(length: int, most: int) -> tuple[int, int]:
    """Number and size of the chunks of a row."""
    size = min(BLOCK * -(-length // (BLOCK * CHUNKS)), most)
    return (1, length) if length <= size else (-(-length // size), size)


def _in_chunks(x: Shaped[Array, "..."], axis: int, most: int) -> Shaped[Array, "..."]:
    """The axis of positions cut into chunks, [n, ..., C, ...]; the last chunk is filled up with zeros."""
    count, size = _cut(x.shape[axis], most)
    filled = jnp.pad(x, [(0, count * size - x.shape[axis] if i == axis else 0) for i in range(x.ndim)])
    return jnp.moveaxis(filled.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :]), axis, 0)


def _joined(x: Float[Array, "..."], axis: int, length: int) -> Float[Array, "..."]:
    """What `_in_chunks` was given."""
    whole = jnp.moveaxis(x, 0, axis)
    whole = whole.reshape(*whole.shape[:axis], -1, *whole.shape[axis + 2 :])
    return jax.lax.slice_in_dim(whole, 0, length, axis=axis)


def _ids_in_chunks(ids: Ids, most: int) -> Ids:
    return Ids(*(_in_chunks(x, 1, most) for x in ids))


def _own(x: Shaped[Array, "n B ..."], chunk: _Chunk) -> Shaped[Array, "1 ..."]:
    return x[chunk][None]


def _at(ids: Ids, chunk: _Chunk) -> Ids:
    return Ids(*(_own(x, chunk) for x in ids))
