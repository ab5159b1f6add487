"""Pallas for TPU: frame after frame is read once and added to its clip's sum.

The softmax over frames runs along (Milakov and Gimelshein, Online normalizer calculation for softmax): a frame with a
larger score fades what was summed before. Backward is one pass too: the sum over frames that the softmax's derivative
subtracts equals the product of the output with its pull. Steps behind a clip's end fetch nothing.
"""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from vidlmm.kernels.blocks import LANES
from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.launch import Block, Launch

# Bytes of one frame in float32, of which a step holds up to eight.
FRAME = 6 * 2**20
LEAST = -1e30


@dataclass(frozen=True)
class Sizes:
    """rows: of a frame with its class token; scored: v2."""

    clips: int
    frames: int
    rows: int
    width: int
    dtype: Any
    scored: bool


def sizes_of(x: Any, scored: bool) -> Sizes:
    """Raises KernelError for what does not fit on the chip."""
    if x.dtype not in (jnp.bfloat16, jnp.float32):
        raise KernelError(f"got features {x.dtype}: bfloat16 or float32")
    if 4 * prod(x.shape[2:]) > FRAME:
        raise KernelError(
            f"frames of {x.shape[2]} rows of width {x.shape[3]}; the TPU kernel holds {FRAME // 4} numbers"
        )
    clips, frames, rows, width = x.shape
    return Sizes(clips, frames, rows, width, x.dtype, scored)


def usual(s: Sizes) -> tuple[np.ndarray, ...]:
    """Clips of all frames, by which a call declares its traffic."""
    return (np.full(s.clips, s.frames),)


def forward_launch(s: Sizes) -> Launch:
    """Grid: clips, frames. The second output is the log of the softmax's sum, on all lanes."""
    layer = (_whole(s), _one()) if s.scored else ()
    outs = (_clip(s), _state(s)) if s.scored else (_clip(s),)
    scratch = (((s.rows, s.width), jnp.float32), ((2, LANES), jnp.float32))
    ins, grid = (_frame(s, True), *layer), (s.clips, s.frames)
    return Launch("temporal_pool_tpu", grid, ins, outs, scratch, (True, False), 1, usual=usual(s))


def backward_launch(s: Sizes) -> Launch:
    """Grid as forward. Features are read again where the layer's gradient and the scores need them."""
    again = (_whole(s), _one(), _state(s), _state(s), _frame(s, True)) if s.scored else ()
    sums = (_gathered(s, s.rows, s.width), _gathered(s, 1, LANES)) if s.scored else ()
    scratch = (((s.rows, s.width), jnp.float32),)
    grid = (s.clips, s.frames)
    ins, outs = (_clip(s), *again), (_frame(s, False), *sums)
    return Launch("temporal_pool_tpu_dx", grid, ins, outs, scratch, (not s.scored, False), 1, usual=usual(s))


def temporal_pool(
    x: jax.Array, length: jax.Array, weight: jax.Array | None, bias: jax.Array | None, interpret: bool
) -> jax.Array:
    """See `vidlmm.kernels.temporal_pool`."""
    sizes_of(x, weight is not None)
    if weight is None or bias is None:
        return _mean(x, length.astype(jnp.int32), interpret)
    # The class token takes no part in a frame's score.
    layer = jnp.pad(weight, ((1, 0), (0, 0))).astype(x.dtype)
    return _scored(x, length.astype(jnp.int32), layer, bias.astype(jnp.float32)[None], interpret)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _mean(x: Any, length: Any, interpret: bool) -> Any:
    return _mean_forward(x, length, interpret)[0]


def _mean_forward(x: Any, length: Any, interpret: bool) -> tuple[Any, Any]:
    return forward_launch(sizes_of(x, False))(_mean_step, length, x, interpret=interpret), (length, x[:0])


def _mean_backward(interpret: bool, saved: Any, pull: Any) -> tuple[Any, None]:
    length, like = saved
    _, frames, rows, width = like.shape
    sizes = Sizes(pull.shape[0], frames, rows, width, pull.dtype, False)
    return backward_launch(sizes)(_mean_pull_step, length, pull, interpret=interpret), None


_mean.defvjp(_mean_forward, _mean_backward)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _scored(x: Any, length: Any, layer: Any, bias: Any, interpret: bool) -> Any:
    return _scored_forward(x, length, layer, bias, interpret)[0]


def _scored_forward(x: Any, length: Any, layer: Any, bias: Any, interpret: bool) -> tuple[Any, tuple]:
    launch = forward_launch(sizes_of(x, True))
    out, log_sum = launch(_scored_step, length, x, layer, bias, interpret=interpret)
    return out, (x, length, layer, bias, out, log_sum)


def _scored_backward(interpret: bool, saved: tuple, pull: Any) -> tuple[Any, None, Any, Any]:
    x, length, layer, bias, out, log_sum = saved
    inner = jnp.sum(out.astype(jnp.float32) * pull.astype(jnp.float32), axis=(1, 2))
    inner = jnp.broadcast_to(inner[:, None, None], log_sum.shape)
    launch = backward_launch(sizes_of(x, True))
    d_x, d_layer, d_bias = launch(_scored_pull_step, length, pull, layer, bias, log_sum, inner, x, interpret=interpret)
    return d_x, None, d_layer.astype(layer.dtype), d_bias[:, :1]


_scored.defvjp(_scored_forward, _scored_backward)


def _mean_step(length: Any, x: Any, out: Any, total: Any, _: Any) -> None:
    own = length[pl.program_id(0)]

    @pl.when(pl.program_id(1) == 0)
    def _() -> None:
        total[...] = jnp.zeros_like(total)

    @pl.when(pl.program_id(1) < own)
    def _() -> None:
        total[...] += x[0, 0].astype(jnp.float32)

    @pl.when(pl.program_id(1) == pl.num_programs(1) - 1)
    def _() -> None:
        out[0] = (total[1:, :] / jnp.maximum(own, 1).astype(jnp.float32)).astype(out.dtype)


def _scored_step(length: Any, x: Any, layer: Any, bias: Any, out: Any, log_sum: Any, total: Any, state: Any) -> None:
    """state: the largest score so far, and the sum of the shares by it."""

    @pl.when(pl.program_id(1) == 0)
    def _() -> None:
        total[...] = jnp.zeros_like(total)
        state[0:1, :] = jnp.full((1, LANES), LEAST)
        state[1:2, :] = jnp.zeros((1, LANES))

    @pl.when(pl.program_id(1) < length[pl.program_id(0)])
    def _() -> None:
        seen = x[0, 0].astype(jnp.float32)
        score = _over_all(seen * layer[...].astype(jnp.float32)) + bias[...]
        top = jnp.maximum(state[0:1, 0:1], score)
        fade, share = jnp.exp(state[0:1, 0:1] - top), jnp.exp(score - top)
        total[...] = total[...] * fade + seen * share
        state[1:2, :] = state[1:2, :] * fade + share
        state[0:1, :] = jnp.broadcast_to(top, (1, LANES))

    @pl.when(pl.program_id(1) == pl.num_programs(1) - 1)
    def _() -> None:
        # A clip without frames has no sum: its rows are zero.
        sums = jnp.maximum(state[1:2, :], 1e-30)
        out[0] = (total[1:, :] / sums[:, 0:1]).astype(out.dtype)
        log_sum[0] = state[0:1, :] + jnp.log(sums)


def _mean_pull_step(length: Any, pull: Any, d_x: Any, held: Any) -> None:
    own = length[pl.program_id(0)]

    @pl.when(pl.program_id(1) == 0)
    def _() -> None:
        held[0:1, :] = jnp.zeros((1, held.shape[1]))
        held[1:, :] = pull[0].astype(jnp.float32) / jnp.maximum(own, 1).astype(jnp.float32)

    d_x[0, 0] = jnp.where(pl.program_id(1) < own, held[...], 0).astype(d_x.dtype)


def _scored_pull_step(
    length: Any, pull: Any, layer: Any, bias: Any, log_sum: Any, inner: Any, x: Any, *outs: Any
) -> None:
    d_x, d_layer, d_bias, held = outs
    there = pl.program_id(1) < length[pl.program_id(0)]

    @pl.when((pl.program_id(0) == 0) & (pl.program_id(1) == 0))
    def _() -> None:
        d_layer[...] = jnp.zeros_like(d_layer)
        d_bias[...] = jnp.zeros_like(d_bias)

    @pl.when(pl.program_id(1) == 0)
    def _() -> None:
        held[0:1, :] = jnp.zeros((1, held.shape[1]))
        held[1:, :] = pull[0].astype(jnp.float32)

    @pl.when(there)
    def _() -> None:
        seen, weights = x[0, 0].astype(jnp.float32), layer[...].astype(jnp.float32)
        share = jnp.exp(_over_all(seen * weights) + bias[...] - log_sum[0, :, 0:1])
        d_score = share * (_over_all(seen * held[...]) - inner[0, :, 0:1])
        d_x[0, 0] = (share * held[...] + d_score * weights).astype(d_x.dtype)
        d_layer[...] += d_score * seen
        d_bias[...] += jnp.broadcast_to(d_score, d_bias.shape)

    @pl.when(jnp.logical_not(there))
    def _() -> None:
        d_x[0, 0] = jnp.zeros(d_x.shape[2:], d_x.dtype)


def _over_all(values: Any) -> Any:
    """[1, 1]"""
    return jnp.sum(jnp.sum(values, axis=1, keepdims=True), axis=0, keepdims=True)


def _frame(s: Sizes, short: bool) -> Block:
    """short: steps behind a clip's end stay at its last frame, so that nothing more is fetched."""

    def at(c: Any, t: Any, length: Any) -> tuple[Any, ...]:
        return (c, jnp.minimum(t, jnp.maximum(length[c] - 1, 0)) if short else t, 0, 0)

    one = (s.rows, s.width)
    return Block((s.clips, s.frames, *one), s.dtype, (1, 1, *one), at)


def _clip(s: Sizes) -> Block:
    one = (s.rows - 1, s.width)
    return Block((s.clips, *one), s.dtype, (1, *one), lambda c, t, length: (c, 0, 0))


def _state(s: Sizes) -> Block:
    return Block((s.clips, 1, LANES), jnp.float32, (1, 1, LANES), lambda c, t, length: (c, 0, 0))


def _whole(s: Sizes) -> Block:
    one = (s.rows, s.width)
    return Block(one, s.dtype, one, lambda c, t, length: (0, 0), True)


def _one() -> Block:
    return Block((1, 1), jnp.float32, (1, 1), lambda c, t, length: (0, 0))


def _gathered(s: Sizes, rows: int, width: int) -> Block:
    return Block((rows, width), jnp.float32, (rows, width), lambda c, t, length: (0, 0))
