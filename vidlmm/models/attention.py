"""Who sees whom, and the attention that follows it.

The rule of every row: position i sees position j when j stands at or before i in the row, both are
of the same segment (0 is padding), and j is of the shared prefix (branch 0) or of i's own branch.
A position that sees nothing (padding) gets zeros.

Rows go through in blocks of queries, so that keys after a block are never multiplied and a long row
never holds an L x L array. The backward pass forms the weights again from the scores and their
log-sum instead of keeping them (Dao et al., FlashAttention, section 3.1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Float32, Int

# Rows up to this length keep their masks for all layers; longer ones make them chunk by chunk.
LONG = 2048
# Queries of one chunk in a long row; a short row has blocks of a multiple of BLOCK, at most BLOCKS of them.
CHUNK = 512
BLOCK = 64
BLOCKS = 8
# What a layer's recomputation policy may keep.
SAVED = "attention"

# Finite: a position that sees nothing gives numbers, not NaN.
HIDDEN_SCORE = -1e30


class Masks(NamedTuple):
    """Who sees whom in short rows: one mask a block of queries, over the keys up to the block's end."""

    blocks: tuple[Bool[Array, "B _ _"], ...]


class Ids(NamedTuple):
    """Who sees whom in long rows, from the ids themselves."""

    segment: Int[Array, "B L"]
    branch: Int[Array, "B L"]


Sight = Masks | Ids


def sight(segment: Int[Array, "B L"], branch: Int[Array, "B L"]) -> Sight:
    """The rule for whole rows, made once for all layers."""
    length = segment.shape[1]
    if length > LONG:
        return Ids(segment, branch)
    return Masks(tuple(visible(segment, branch, s, e - s, e) for s, e in _blocks(length)))


def visible(
    segment: Int[Array, "B S"], branch: Int[Array, "B S"], first: int | Int[Array, ""], queries: int, keys: int
) -> Bool[Array, "B Q K"]:
    """The rule for queries `first .. first+queries` and keys `0 .. keys` of each row."""
    order = first + jnp.arange(queries)[:, None] >= jnp.arange(keys)[None, :]
    q_segment = jax.lax.dynamic_slice_in_dim(segment, first, queries, axis=1)[:, :, None]
    q_branch = jax.lax.dynamic_slice_in_dim(branch, first, queries, axis=1)[:, :, None]
    k_segment, k_branch = segment[:, None, :keys], branch[:, None, :keys]
    same = (q_segment == k_segment) & (q_segment != 0)
    return order & same & ((k_branch == 0) | (k_branch == q_branch))


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
    scores = _scores(q * q.shape[-1] ** -0.5, k)
    if bias is not None:
        scores = scores + bias.astype(jnp.float32)
    if mask is not None:
        scores = jnp.where(mask[:, None, None], scores, HIDDEN_SCORE)
    return _rows_by_keys(jax.nn.softmax(scores, axis=-1).astype(v.dtype), v).astype(q.dtype)


@jax.custom_vjp
def attend_rows(
    q: Float[Array, "B K G L d"], k: Float[Array, "B K L d"], v: Float[Array, "B K L d"], who: Sight
) -> Float[Array, "B K G L d"]:
    """Attention of whole rows on themselves; as `attend`, under the rule of this file."""
    return _rows_forward(q, k, v, who)[0]


def _rows_forward(q: Array, k: Array, v: Array, who: Sight) -> tuple[Array, tuple]:
    scaled = q * q.shape[-1] ** -0.5
    if isinstance(who, Masks):
        parts = [
            _block(scaled[:, :, :, s:e], k[:, :, :e], v[:, :, :e], mask)
            for (s, e), mask in zip(_blocks(q.shape[3]), who.blocks, strict=True)
        ]
        out, log_sum = (jnp.concatenate(part, axis=3) for part in zip(*parts, strict=True))
    else:
        segment, branch, padded = _padded(who, scaled)

        def one(first: Array) -> tuple[Array, Array]:
            chunk = jax.lax.dynamic_slice_in_dim(padded, first, CHUNK, axis=3)
            return _block(chunk, k, v, visible(segment, branch, first, CHUNK, k.shape[2]))

        parts = jax.lax.map(one, jnp.arange(0, padded.shape[3], CHUNK))
        out, log_sum = (_unchunk(part, q.shape[3]) for part in parts)
    out = checkpoint_name(out.astype(q.dtype), SAVED)
    log_sum = checkpoint_name(log_sum, SAVED)
    return out, (q, k, v, who, out, log_sum)


def _rows_backward(saved: tuple, d_out: Array) -> tuple[Array, Array, Array, None]:
    q, k, v, who, out, log_sum = saved
    scale = q.shape[-1] ** -0.5
    scaled = q * scale
    # The sum over keys of weight * d_weight, which the softmax's derivative subtracts.
    inner = jnp.sum(d_out.astype(jnp.float32) * out.astype(jnp.float32), axis=-1)
    d_k, d_v = jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    if isinstance(who, Masks):
        parts = []
        for (s, e), mask in zip(_blocks(q.shape[3]), who.blocks, strict=True):
            rows = [x[:, :, :, s:e] for x in (scaled, d_out, log_sum, inner)]
            d_rows, d_keys, d_values = _block_backward(
                rows[0], rows[1], rows[2], rows[3], k[:, :, :e], v[:, :, :e], mask
            )
            parts.append(d_rows)
            d_k, d_v = d_k.at[:, :, :e].add(d_keys), d_v.at[:, :, :e].add(d_values)
        d_q = jnp.concatenate(parts, axis=3)
    else:
        segment, branch, *padded = _padded(who, scaled, d_out, log_sum, inner)

        def one(sums: tuple[Array, Array], first: Array) -> tuple[tuple[Array, Array], Array]:
            rows = [jax.lax.dynamic_slice_in_dim(x, first, CHUNK, axis=3) for x in padded]
            mask = visible(segment, branch, first, CHUNK, k.shape[2])
            d_rows, d_keys, d_values = _block_backward(rows[0], rows[1], rows[2], rows[3], k, v, mask)
            return (sums[0] + d_keys, sums[1] + d_values), d_rows

        (d_k, d_v), parts = jax.lax.scan(one, (d_k, d_v), jnp.arange(0, padded[0].shape[3], CHUNK))
        d_q = _unchunk(parts, q.shape[3])
    return (d_q * scale).astype(q.dtype), d_k.astype(k.dtype), d_v.astype(v.dtype), None


attend_rows.defvjp(_rows_forward, _rows_backward)


def _block(
    q: Float[Array, "B K G Q d"], k: Float[Array, "B K S d"], v: Float[Array, "B K S d"], mask: Bool[Array, "B Q S"]
) -> tuple[Float[Array, "B K G Q d"], Float32[Array, "B K G Q"]]:
    """Output and log-sum of the scores of one block of scaled queries."""
    scores = jnp.where(mask[:, None, None], _scores(q, k), HIDDEN_SCORE)
    top = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.where(mask[:, None, None], jnp.exp(scores - top), 0)
    total = jnp.maximum(jnp.sum(weights, axis=-1, keepdims=True), 1e-30)
    out = _rows_by_keys(weights.astype(v.dtype), v) / total
    return out, (top + jnp.log(total))[..., 0]


def _block_backward(
    q: Float[Array, "B K G Q d"],
    d_out: Float[Array, "B K G Q d"],
    log_sum: Float32[Array, "B K G Q"],
    inner: Float32[Array, "B K G Q"],
    k: Float[Array, "B K S d"],
    v: Float[Array, "B K S d"],
    mask: Bool[Array, "B Q S"],
) -> tuple[Float32[Array, "B K G Q d"], Float32[Array, "B K S d"], Float32[Array, "B K S d"]]:
    """Gradients to the scaled queries, the keys and the values from one block of queries."""
    weights = jnp.where(mask[:, None, None], jnp.exp(_scores(q, k) - log_sum[..., None]), 0)
    d_v = _keys_by_rows(weights.astype(v.dtype), d_out)
    d_scores = (weights * (_scores(d_out, v) - inner[..., None])).astype(k.dtype)
    return _rows_by_keys(d_scores, k), _keys_by_rows(d_scores, q), d_v


def _scores(q: Float[Array, "B K G Q d"], k: Float[Array, "B K S d"]) -> Float32[Array, "B K G Q S"]:
    rows = q.reshape(*q.shape[:2], -1, q.shape[4])
    scores = jnp.einsum("bkqd,bksd->bkqs", rows, k, preferred_element_type=jnp.float32)
    return scores.reshape(*q.shape[:4], k.shape[2])


def _rows_by_keys(weights: Float[Array, "B K G Q S"], v: Float[Array, "B K S d"]) -> Float32[Array, "B K G Q d"]:
    rows = weights.reshape(*weights.shape[:2], -1, weights.shape[4])
    out = jnp.einsum("bkqs,bksd->bkqd", rows, v, preferred_element_type=jnp.float32)
    return out.reshape(*weights.shape[:4], v.shape[3])


def _keys_by_rows(weights: Float[Array, "B K G Q S"], x: Float[Array, "B K G Q d"]) -> Float32[Array, "B K S d"]:
    rows = weights.reshape(*weights.shape[:2], -1, weights.shape[4])
    x = x.reshape(*x.shape[:2], -1, x.shape[4])
    return jnp.einsum("bkqs,bkqd->bksd", rows, x, preferred_element_type=jnp.float32)


def _blocks(length: int) -> list[tuple[int, int]]:
    block = BLOCK * -(-length // (BLOCK * BLOCKS))
    return [(start, min(start + block, length)) for start in range(0, length, block)]


def _padded(who: Ids, *rows: Array) -> tuple[Array, ...]:
    """Ids and per-query arrays filled up to whole chunks; filling has segment 0 and sees nothing."""
    pad = -who.segment.shape[1] % CHUNK
    ids = [jnp.pad(x, [(0, 0), (0, pad)]) for x in who]
    return (*ids, *(jnp.pad(x, [(0, 0)] * 3 + [(0, pad)] + [(0, 0)] * (x.ndim - 4)) for x in rows))


def _unchunk(parts: Float[Array, "n B K G C *d"], length: int) -> Float[Array, "B K G L *d"]:
    joined = jnp.moveaxis(parts, 0, 3)
    return joined.reshape(*joined.shape[:3], -1, *joined.shape[5:])[:, :, :, :length]
