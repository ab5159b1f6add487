"""Pallas for GPUs: attention of rows whose scores never leave a processor.

Forward: a block of queries stays in registers while the blocks of keys that it may see pass by; output and softmax run
along (Milakov and Gimelshein, Online normalizer calculation for softmax). Backward: the weights are made again from the
scores and the log of the softmax's sum (Dao et al., FlashAttention, section 3.1), once for the queries' gradient and
once for that of keys and values, so that each has one writer and its sums are in a fixed order.
"""

from collections.abc import Callable
from functools import partial
from math import log
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl

from vidlmm.kernels.launch_gpu import mask_of, read, steps, write
from vidlmm.kernels.products import dot
from vidlmm.kernels.tree_attention.heads import HIDDEN_SCORE, LEAST_SUM, LEAST_TOP, SAVED
from vidlmm.kernels.tree_attention.launches_gpu import Pass, Sizes, launch_of, sizes_of
from vidlmm.kernels.tree_attention.meetings import lists
from vidlmm.kernels.tree_attention.rule import Ids, meets

# A GPU has an instruction for powers of two: scores are multiplied by this, and logs divided.
_LOG2_E = 1 / log(2)


def tree_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    queries: Ids,
    keys: Ids,
    block: tuple[int, int] | None = None,
    interpret: bool = False,
) -> jax.Array:
    """See `vidlmm.kernels.tree_attention`."""
    return _tree_attention(q, k, v, queries, keys, sizes_of(q, k, block, interpret=interpret), interpret)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _tree_attention(q: Any, k: Any, v: Any, queries: Ids, keys: Ids, s: Sizes, interpret: bool) -> Any:
    return _forward(q, k, v, queries, keys, s, interpret)[0]


def _forward(q: Any, k: Any, v: Any, queries: Ids, keys: Ids, s: Sizes, interpret: bool) -> tuple[Any, tuple]:
    out, log_sum = _run(s, "", _forward_body, interpret, queries, keys, q, k, v)
    out, log_sum = checkpoint_name(out, SAVED), checkpoint_name(log_sum, SAVED)
    return out, (q, k, v, queries, keys, out, log_sum)


def _backward(s: Sizes, interpret: bool, saved: tuple, pull: Any) -> tuple[Any, Any, Any, None, None]:
    q, k, v, queries, keys, out, log_sum = saved
    # The sum over keys of weight * d_weight, which the softmax's derivative subtracts.
    inner = jnp.sum(pull.astype(s.wide) * out.astype(s.wide), axis=-1)
    arrays = (queries, keys, q, k, v, pull, log_sum, inner)
    d_q = _run(s, "_dx", _queries_body, interpret, *arrays)
    d_k, d_v = _run(s, "_dx_keys", _keys_body, interpret, *arrays)
    return d_q, d_k, d_v, None, None


_tree_attention.defvjp(_forward, _backward)


def _run(s: Sizes, kind: Pass, body: Any, interpret: bool, queries: Ids, keys: Ids, *arrays: Any) -> Any:
    tile = s.tile(kind)
    own, others = _filled(queries, tile.queries), _filled(keys, tile.keys)
    listed = lists(own, others, tile.queries, tile.keys, of_keys=kind == "_dx_keys")
    ids = (jnp.stack(one, axis=1) for one in (own, others))
    return launch_of(s, kind)(partial(body, s=s), *listed, *ids, *arrays, interpret=interpret)


def _filled(ids: Ids, block: int) -> Ids:
    """Padding behind the places, up to whole blocks."""
    extra = -ids.place.shape[1] % block
    return Ids(*(jnp.pad(x.astype(jnp.int32), ((0, 0), (0, extra))) for x in ids))


class _Block(NamedTuple):
    """A block of places. inside: which of them there are, None where all are."""

    at: Any
    inside: Any

    def tile(self, ref: Any, before: tuple, s: Sizes) -> Any:
        """[places, columns]: zeros where nothing is."""
        return read(ref.at[self._of(before, s)], *self._masks(s))

    def write_tile(self, ref: Any, before: tuple, values: Any, s: Sizes) -> None:
        write(ref.at[self._of(before, s)], values, *self._masks(s))

    def numbers(self, ref: Any, before: tuple) -> Any:
        """One a place."""
        return read(ref.at[(*before, self.at)], self.inside)

    def ids(self, ref: Any, row: Any) -> Ids:
        """Filled up to whole blocks: of what is not there the segment is padding."""
        return Ids(*(ref[row, number, self.at] for number in range(3)))

    def _of(self, before: tuple, s: Sizes) -> tuple:
        return *before, self.at[:, None], jnp.arange(s.width)[None, :]

    def _masks(self, s: Sizes) -> tuple:
        columns = mask_of(jnp.arange(s.width), s.depth, s.width)
        rows = None if self.inside is None else self.inside[:, None]
        return rows, None if columns is None else columns[None, :]


def _block(number: Any, size: int, length: int, full: bool = False) -> _Block:
    """full: nothing of this block is beyond the length."""
    at = number * size + jnp.arange(size)
    return _Block(at, None if full else mask_of(at, length, size))


def _through(blocks: Any, ends: Any, line: tuple, step: Callable[[bool, Any, Any], Any], start: Any) -> Any:
    """`step(whole, number, state)` for each block of a line, first those that are masked."""

    def one(whole: bool) -> Callable[[Any, Any], Any]:
        return lambda n, state: step(whole, blocks[(*line, n)], state)

    masked, end = ends[(*line, 0)], ends[(*line, 1)]
    return jax.lax.fori_loop(masked, end, one(True), jax.lax.fori_loop(0, masked, one(False), start))


def _columns(ids: Ids) -> Ids:
    return Ids(*(x[:, None] for x in ids))


def _lines(ids: Ids) -> Ids:
    return Ids(*(x[None, :] for x in ids))


def _place(s: Sizes, axis: int) -> tuple[Any, Any]:
    """Row and key head of a program."""
    both, heads = pl.program_id(axis), np.int32(s.heads)
    return jax.lax.div(both, heads), jax.lax.rem(both, heads)


def _scale(s: Sizes) -> float:
    return s.depth**-0.5 * _LOG2_E


def _forward_body(
    blocks: Any, ends: Any, q_ids: Any, k_ids: Any, q: Any, k: Any, v: Any, out: Any, log_sum: Any, *, s: Sizes
) -> None:
    tile, (row, head) = s.tile(""), _place(s, 2)
    # The last queries see most.
    number = steps(s.queries, tile.queries) - 1 - pl.program_id(1)
    of_q, of_k = (row, head, pl.program_id(0)), (row, head)
    queries = _block(number, tile.queries, s.queries)
    query, own = queries.tile(q, of_q, s), _columns(queries.ids(q_ids, row))

    def step(whole: bool, block: Any, state: tuple) -> tuple:
        total, top, sums = state
        keys = _block(block, tile.keys, s.keys, whole)
        scores = dot(query, keys.tile(k, of_k, s), (1, 1)) * _scale(s)
        if not whole:
            scores = jnp.where(meets(own, _lines(keys.ids(k_ids, row))), scores, HIDDEN_SCORE)
        new = jnp.maximum(top, jnp.max(scores, axis=1))
        weights, fade = jnp.exp2(scores - new[:, None]), jnp.exp2(top - new)
        total = total * fade[:, None] + dot(weights.astype(s.dtype), keys.tile(v, of_k, s))
        return total, new, sums * fade + jnp.sum(weights, axis=1)

    start = (
        jnp.zeros((tile.queries, s.width), s.wide),
        jnp.full(tile.queries, LEAST_TOP, s.wide),
        jnp.zeros(tile.queries, s.wide),
    )
    total, top, sums = _through(blocks, ends, (row, number), step, start)
    sums = jnp.maximum(sums, LEAST_SUM)
    queries.write_tile(out, of_q, total / sums[:, None], s)
    write(log_sum.at[(*of_q, queries.at)], top / _LOG2_E + jnp.log(sums), queries.inside)


def _queries_body(
    blocks: Any, ends: Any, q_ids: Any, k_ids: Any, q: Any, k: Any, v: Any, pull: Any, log_sum: Any, inner: Any,
    d_q: Any, *, s: Sizes,
) -> None:  # fmt: skip
    tile, (row, head) = s.tile("_dx"), _place(s, 2)
    number = steps(s.queries, tile.queries) - 1 - pl.program_id(1)
    of_q, of_k = (row, head, pl.program_id(0)), (row, head)
    queries = _block(number, tile.queries, s.queries)
    query, pulled, own = queries.tile(q, of_q, s), queries.tile(pull, of_q, s), _columns(queries.ids(q_ids, row))
    logs = queries.numbers(log_sum, of_q)[:, None] * _LOG2_E
    subtracted = queries.numbers(inner, of_q)[:, None]

    def step(whole: bool, block: Any, total: Any) -> Any:
        keys = _block(block, tile.keys, s.keys, whole)
        key = keys.tile(k, of_k, s)
        weights = jnp.exp2(dot(query, key, (1, 1)) * _scale(s) - logs)
        if not whole:
            weights = jnp.where(meets(own, _lines(keys.ids(k_ids, row))), weights, 0)
        d_scores = weights * (dot(pulled, keys.tile(v, of_k, s), (1, 1)) - subtracted)
        return total + dot(d_scores.astype(s.dtype), key)

    start = jnp.zeros((tile.queries, s.width), s.wide)
    total = _through(blocks, ends, (row, number), step, start)
    queries.write_tile(d_q, of_q, total * s.depth**-0.5, s)


def _keys_body(
    blocks: Any, ends: Any, q_ids: Any, k_ids: Any, q: Any, k: Any, v: Any, pull: Any, log_sum: Any, inner: Any,
    d_k: Any, d_v: Any, *, s: Sizes,
) -> None:  # fmt: skip
    """Scores stand the other way round here, a key a row, so that no tile has to be turned in registers."""
    tile, number, (row, head) = s.tile("_dx_keys"), pl.program_id(0), _place(s, 1)
    of_k = (row, head)
    keys = _block(number, tile.keys, s.keys)
    key, value, own = keys.tile(k, of_k, s), keys.tile(v, of_k, s), _columns(keys.ids(k_ids, row))

    def group(g: Any, state: tuple) -> tuple:
        of_q = (row, head, g)

        def step(whole: bool, block: Any, state: tuple) -> tuple:
            d_key, d_value = state
            queries = _block(block, tile.queries, s.queries, whole)
            query, pulled = queries.tile(q, of_q, s), queries.tile(pull, of_q, s)
            logs = queries.numbers(log_sum, of_q)[None, :] * _LOG2_E
            weights = jnp.exp2(dot(key, query, (1, 1)) * _scale(s) - logs)
            if not whole:
                weights = jnp.where(meets(_lines(queries.ids(q_ids, row)), own), weights, 0)
            d_value += dot(weights.astype(s.dtype), pulled)
            d_scores = weights * (dot(value, pulled, (1, 1)) - queries.numbers(inner, of_q)[None, :])
            return d_key + dot(d_scores.astype(s.dtype), query), d_value

        return _through(blocks, ends, (row, number), step, state)

    nothing = jnp.zeros((tile.keys, s.width), s.wide)
    d_key, d_value = jax.lax.fori_loop(0, s.groups, group, (nothing, nothing))
    keys.write_tile(d_k, of_k, d_key * s.depth**-0.5, s)
    keys.write_tile(d_v, of_k, d_value, s)
