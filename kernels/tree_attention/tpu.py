"""Pallas for TPU: attention of rows whose scores never leave the chip.

Forward: a block of queries of all heads of a group stays on the chip while the blocks of keys that it may see pass by;
output and softmax run along (Milakov and Gimelshein, Online normalizer calculation for softmax). Backward: the weights
are made again from the scores and the log of the softmax's sum (Dao et al., FlashAttention, section 3.1), once for all
gradients: those of all keys and values of a row stay on the chip while its queries pass by. There scores stand the
other way round, so that what belongs to a query is a row.
"""

from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from vidlmm.kernels.blocks import LANES
from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.products import dot
from vidlmm.kernels.tree_attention.heads import HIDDEN_SCORE, LEAST_SUM, LEAST_TOP, SAVED
from vidlmm.kernels.tree_attention.launches import KERNEL, RESIDENT, Pass, Sizes, launch_of, sizes_of
from vidlmm.kernels.tree_attention.meetings import FIRST, LAST, WHOLE, Code, meetings
from vidlmm.kernels.tree_attention.rule import Ids, meets

__all__ = ["KERNEL", "Setup", "steps", "tree_attention"]


@dataclass(frozen=True)
class Setup:
    """What is static of a call. block: places of queries and keys in a step, None by rule."""

    block: tuple[int, int] | None = None
    interpret: bool = False

    def sizes(self, q: Any, k: Any) -> Sizes:
        """Raises KernelError for what does not fit on the chip."""
        return sizes_of(q, k, self.block, interpret=self.interpret)

    def takes(self, q: Any, k: Any) -> bool:
        """Whether it fits."""
        try:
            self.sizes(q, k)
        except KernelError:
            return False
        return True


def tree_attention(q: jax.Array, k: jax.Array, v: jax.Array, queries: Ids, keys: Ids, setup: Setup) -> jax.Array:
    """See `vidlmm.kernels.tree_attention`."""
    setup.sizes(q, k)
    return _tree_attention(q, k, v, queries, keys, setup)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _tree_attention(q: Any, k: Any, v: Any, queries: Ids, keys: Ids, setup: Setup) -> Any:
    return _forward(q, k, v, queries, keys, setup)[0]


def _forward(q: Any, k: Any, v: Any, queries: Ids, keys: Ids, setup: Setup) -> tuple[Any, tuple]:
    s = setup.sizes(q, k)
    out, log_sum = _run(s, "", setup, _forward_step, (q,), (k, v), (), queries, keys)
    out = checkpoint_name(out[..., : s.true_queries, :], SAVED)
    log_sum = checkpoint_name(log_sum[..., : s.true_queries], SAVED)
    return out, (q, k, v, queries, keys, out, log_sum)


def _backward(setup: Setup, saved: tuple, pull: Any) -> tuple[Any, Any, Any, None, None]:
    q, k, v, queries, keys, out, log_sum = saved
    s = setup.sizes(q, k)
    # The sum over keys of weight * d_weight, which the softmax's derivative subtracts.
    inner = jnp.sum(pull.astype(s.wide) * out.astype(s.wide), axis=-1)
    found = []
    for own, sizes in s.parts(RESIDENT):
        here = Ids(*(x[:, own] for x in keys))
        arrays = (q,), (k[:, :, own], v[:, :, own]), (pull, log_sum, inner)
        d_q, d_k, d_v = _run(sizes, "_dx", setup, _gradients_step, *arrays, queries, here)
        found.append((d_q[..., : s.true_queries, :], *(x[:, :, : sizes.true_keys] for x in (d_k, d_v))))
    d_q, d_k, d_v = zip(*found, strict=True)
    d_k, d_v = (jnp.concatenate(x, axis=2) for x in (d_k, d_v))
    return reduce(jnp.add, d_q).astype(q.dtype), (d_k * s.depth**-0.5).astype(k.dtype), d_v.astype(v.dtype), None, None


_tree_attention.defvjp(_forward, _backward)


def steps(queries: Ids, keys: Ids, s: Sizes) -> jax.Array:
    """How many pairs of blocks a kernel goes through for these positions: what it costs, in its own unit."""
    queries, keys = _ids_filled(queries, s.queries), _ids_filled(keys, s.keys)
    return meetings(queries, keys, s.block_q, s.block_k)[1]


def _run(
    s: Sizes, kind: Pass, setup: Setup, body: Any, q: tuple, kv: tuple, rest: tuple, queries: Ids, keys: Ids
) -> Any:
    """A kernel on arrays that are filled up to whole blocks."""
    q, rest = (tuple(_filled(x, 3, s.queries) for x in some) for some in (q, rest))
    kv = tuple(_filled(x, 2, s.keys) for x in kv)
    queries, keys = _ids_filled(queries, s.queries), _ids_filled(keys, s.keys)
    listed, count = meetings(queries, keys, s.block_q, s.block_k)
    ids = tuple(jnp.stack(one, axis=1).astype(jnp.int32) for one in (queries, keys))
    body = partial(body, code=s.code, scale=s.depth**-0.5)
    arrays = (listed, *q, *kv, *rest, *ids)
    return launch_of(s, kind)(body, *arrays, interpret=setup.interpret, last=count)


def _ids_filled(ids: Ids, size: int) -> Ids:
    return Ids(*(_filled(x, 1, size) for x in ids))


def _filled(x: Any, axis: int, size: int) -> Any:
    """Zeros behind the places: ids of padding, among others."""
    if x.shape[axis] == size:
        return x
    return jnp.pad(x, [(0, size - x.shape[axis] if i == axis else 0) for i in range(x.ndim)])


def _forward_step(
    listed: Any, q: Any, k: Any, v: Any, q_ids: Any, k_ids: Any, out: Any, log_sum: Any,
    total: Any, top: Any, sums: Any, own: Any, *, code: Code, scale: float,
) -> None:  # fmt: skip
    """total, top, sums: of each query the sum of values, the largest score so far and the sum of weights by it."""
    now = listed[pl.program_id(1)]

    @pl.when(now & FIRST != 0)
    def _() -> None:
        total[...] = jnp.zeros_like(total)
        top[...] = jnp.full(top.shape, LEAST_TOP, top.dtype)
        sums[...] = jnp.zeros_like(sums)
        _stand_up(q_ids, own)

    def add(mask: Any) -> None:
        def one(g: Any) -> None:
            scores = dot(q[0, 0, g], k[0, 0], (1, 1)) * scale
            if mask is not None:
                scores = jnp.where(mask, scores, HIDDEN_SCORE)
            new = jnp.maximum(top[g], jnp.max(scores, axis=1, keepdims=True))
            weights, fade = jnp.exp(scores - new[:, :1]), jnp.exp(top[g] - new)
            total[g] = total[g] * fade[:, :1] + dot(weights.astype(v.dtype), v[0, 0])
            sums[g] = sums[g] * fade + jnp.sum(weights, axis=1, keepdims=True)
            top[g] = new

        _each(q.shape[2], one)

    _masked(now, add, lambda: meets(_columns(own), _lines(k_ids)))

    @pl.when(now & LAST != 0)
    def _() -> None:
        def one(g: Any) -> None:
            summed = jnp.maximum(sums[g], LEAST_SUM)
            out[0, 0, g] = (total[g] / summed[:, :1]).astype(out.dtype)
            log_sum[0, 0, pl.ds(g, 1), :] = (top[g] + jnp.log(summed)).T[:1, :]

        _each(q.shape[2], one)


def _gradients_step(
    listed: Any, q: Any, k: Any, v: Any, pull: Any, log_sum: Any, inner: Any, q_ids: Any, k_ids: Any,
    d_q: Any, d_k: Any, d_v: Any, total: Any, keys: Any, values: Any, *, code: Code, scale: float,
) -> None:  # fmt: skip
    """total: the gradient of the queries; keys, values: of all of a row's, before `scale`."""
    head, n = pl.program_id(0), pl.program_id(1)
    now, row = listed[n], code.row(listed[n])
    size = k.shape[2]
    own = pl.ds(pl.multiple_of(code.key(now) * size, size), size)

    @pl.when((n == 0) | (code.row(listed[jnp.maximum(n - 1, 0)]) != row))
    def _() -> None:
        keys[...] = jnp.zeros_like(keys)
        values[...] = jnp.zeros_like(values)

    @pl.when(now & FIRST != 0)
    def _() -> None:
        total[...] = jnp.zeros_like(total)

    def add(mask: Any) -> None:
        def one(g: Any) -> None:
            weights = jnp.exp(dot(k[0, 0], q[0, 0, g], (1, 1)) * scale - log_sum[0, 0, pl.ds(g, 1), :])
            if mask is not None:
                weights = jnp.where(mask, weights, 0)
            d_scores = weights * (dot(v[0, 0], pull[0, 0, g], (1, 1)) - inner[0, 0, pl.ds(g, 1), :])
            d_scores = d_scores.astype(q.dtype)
            total[g] += dot(d_scores, k[0, 0], (0, 0))
            keys[own, :] += dot(d_scores, q[0, 0, g])
            values[own, :] += dot(weights.astype(pull.dtype), pull[0, 0, g])

        _each(q.shape[2], one)

    _masked(now, add, lambda: meets(_lines(q_ids), Ids(*(_column(line)[:, :1] for line in _lines(k_ids)))))

    @pl.when(now & LAST != 0)
    def _() -> None:
        d_q[0, 0] = (total[...] * scale).astype(d_q.dtype)

    steps = pl.num_programs(1)

    @pl.when((n == steps - 1) | (code.row(listed[jnp.minimum(n + 1, steps - 1)]) != row))
    def _() -> None:
        pltpu.sync_copy(keys, d_k.at[row, head])
        pltpu.sync_copy(values, d_v.at[row, head])


def _each(heads: int, one: Any) -> None:
    """The heads of a group one after the other, in a program that does not grow with their number."""
    jax.lax.fori_loop(0, heads, lambda g, _: one(g), None)


def _masked(now: Any, add: Any, mask: Any) -> None:
    """Without a mask where everybody sees everybody."""

    @pl.when(now & WHOLE != 0)
    def _() -> None:
        add(None)

    @pl.when(now & WHOLE == 0)
    def _() -> None:
        add(mask())


def _stand_up(ids: Any, own: Any) -> None:
    for number in range(3):
        own[number] = _column(ids[0, number : number + 1, :])


def _column(line: Any) -> Any:
    """[1, n] to [n, LANES], the same on all lanes."""
    return jnp.broadcast_to(line, (LANES, line.shape[1])).T


def _columns(own: Any) -> Ids:
    return Ids(*(own[number][:, :1] for number in range(3)))


def _lines(ids: Any) -> Ids:
    return Ids(*(ids[0, number : number + 1, :] for number in range(3)))
