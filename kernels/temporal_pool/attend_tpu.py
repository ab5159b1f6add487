"""Pallas for TPU: the questions of some rows stay on the chip while their clip's frames come, each once.

Forward the softmax runs along, as in `temporal_pool.tpu`. Backward goes through the frames twice but fetches them once:
the first time it keeps them on the chip and makes scores and pulls, the second time it writes their gradients. So
nothing but the inputs is kept between the passes. Steps behind a clip's end fetch nothing.

Scores of a row stand on one lane a head. No product is large enough for the matrix unit: a row has its own questions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from vidlmm.kernels.blocks import LANES
from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.launch import Block, Launch

# Rows that are computed with at a time: a tile of bfloat16.
GROUP = 16
# Bytes on the chip by which the rows of a step are chosen.
HELD = 44 * 2**20
LEAST = -1e30


@dataclass(frozen=True)
class Sizes:
    """rows: of a frame; block: of them in a step."""

    clips: int
    frames: int
    heads: int
    rows: int
    width: int
    dtype: Any
    block: int

    @property
    def blocks(self) -> int:
        return -(-self.rows // self.block)


def sizes_of(x: Any, ask: Any, block: int | None = None) -> Sizes:
    """Raises KernelError for what does not fit on the chip. block: multiples of 16."""
    if x.dtype not in (jnp.bfloat16, jnp.float32):
        raise KernelError(f"got features {x.dtype}: bfloat16 or float32")
    clips, frames, rows, width = x.shape
    heads = ask.shape[1]
    if heads > LANES:
        raise KernelError(f"{heads} heads; the TPU kernel takes {LANES}")
    least = Sizes(clips, frames, heads, rows, width, x.dtype, GROUP)
    if block is not None:
        if block % GROUP or block < GROUP:
            raise KernelError(f"a block of {block} rows: it is a multiple of {GROUP}")
        return replace(least, block=block)
    for most in range(-(-rows // GROUP) * GROUP, 0, -GROUP):
        if backward_launch(replace(least, block=most)).held <= HELD:
            parts = -(-rows // most)
            return replace(least, block=-(-rows // (parts * GROUP)) * GROUP)
    raise KernelError(
        f"{frames} frames of width {width} and {heads} heads; the TPU kernel holds {HELD} bytes for {GROUP} rows: "
        "fewer frames, or plain JAX"
    )


def usual(s: Sizes) -> tuple[np.ndarray, ...]:
    """Clips of all frames, by which a call declares its traffic."""
    return (np.full(s.clips, s.frames),)


def forward_launch(s: Sizes) -> Launch:
    """Grid: clips, blocks of rows, frames."""
    scratch = (
        ((s.heads, s.block, s.width), jnp.float32),
        ((s.block, s.width), jnp.float32),
        ((2, s.block, LANES), jnp.float32),
    )
    ins, outs, grid = (_frame(s), _table(s), _asks(s)), (_asks(s), _rows(s)), (s.clips, s.blocks, s.frames)
    order, flops = (True, True, False), 4 * _products(s)
    return Launch("temporal_attend_tpu", grid, ins, outs, scratch, order, 1, flops, usual(s))


def backward_launch(s: Sizes) -> Launch:
    """Grid: clips, blocks of rows, frames to see and then to write."""
    scratch = (
        ((s.frames, s.block, s.width), s.dtype),
        ((s.frames, s.block, LANES), jnp.float32),
        ((s.frames, s.block, LANES), jnp.float32),
        ((s.heads, s.block, s.width), jnp.float32),
    )
    ins = (_frame(s), _table(s), _asks(s), _asks(s), _rows(s))
    outs, grid = (_pulled_frame(s), _asks(s)), (s.clips, s.blocks, 2 * s.frames)
    order, flops = (True, True, False), 10 * _products(s)
    return Launch("temporal_attend_tpu_dx", grid, ins, outs, scratch, order, 1, flops, usual(s))


def temporal_attend(
    x: jax.Array, length: jax.Array, position: jax.Array, ask: jax.Array, interpret: bool, block: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """See `vidlmm.kernels.temporal_attend`. block: rows of a step."""
    sizes = sizes_of(x, ask, block)
    return _attend(x, length.astype(jnp.int32), position.astype(jnp.float32), ask, sizes, interpret)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend(x: Any, length: Any, position: Any, ask: Any, s: Sizes, interpret: bool) -> Any:
    return _attend_forward(x, length, position, ask, s, interpret)[0]


def _attend_forward(x: Any, length: Any, position: Any, ask: Any, s: Sizes, interpret: bool) -> tuple[Any, tuple]:
    out = forward_launch(s)(partial(_forward_step, s=s), length, x, position, ask, interpret=interpret)
    return out, (x, length, position, ask)


def _attend_backward(s: Sizes, interpret: bool, saved: tuple, pulls: Any) -> tuple[Any, None, None, Any]:
    x, length, position, ask = saved
    body = partial(_backward_step, s=s)
    d_x, d_ask = backward_launch(s)(body, length, x, position, ask, *pulls, interpret=interpret)
    return d_x, None, None, d_ask


_attend.defvjp(_attend_forward, _attend_backward)


def _forward_step(
    length: Any,
    x: Any,
    position: Any,
    ask: Any,
    weighted: Any,
    mean: Any,
    total: Any,
    added: Any,
    state: Any,
    *,
    s: Sizes,
) -> None:
    """state: of each row and head the largest score so far, and the sum of the shares by it."""
    own, frame, groups = length[pl.program_id(0)], pl.program_id(2), _groups(s)

    @pl.when(frame == 0)
    def _() -> None:
        total[...] = jnp.zeros_like(total)
        added[...] = jnp.zeros_like(added)
        state[0] = jnp.full(state.shape[1:], LEAST)
        state[1] = jnp.zeros(state.shape[1:])

    @pl.when(frame < own)
    def _() -> None:
        at = position[pl.ds(frame, 1), :]

        def one(rows: Any) -> None:
            seen = x[0, 0, rows, :].astype(jnp.float32)
            added[rows, :] += seen
            z = seen + at
            scores = _by_head([ask[0, e, rows, :] for e in range(s.heads)], z)
            top = jnp.maximum(state[0, rows, :], scores)
            fade, share = jnp.exp(state[0, rows, :] - top), jnp.exp(scores - top)
            state[1, rows, :] = state[1, rows, :] * fade + share
            state[0, rows, :] = top
            for e in range(s.heads):
                total[e, rows, :] = total[e, rows, :] * fade[:, e : e + 1] + z * share[:, e : e + 1]

        groups(one)

    @pl.when(frame == s.frames - 1)
    def _() -> None:
        def one(rows: Any) -> None:
            # A clip without frames has no sum: its rows are zero.
            sums = jnp.maximum(state[1, rows, :], 1e-30)
            for e in range(s.heads):
                weighted[0, e, rows, :] = (total[e, rows, :] / sums[:, e : e + 1]).astype(weighted.dtype)
            mean[0, rows, :] = (added[rows, :] / _frames_of(own)).astype(mean.dtype)

        groups(one)


def _backward_step(
    length: Any,
    x: Any,
    position: Any,
    ask: Any,
    pull: Any,
    mean_pull: Any,
    d_x: Any,
    d_ask: Any,
    held: Any,
    shares: Any,
    pulls: Any,
    total: Any,
    *,
    s: Sizes,
) -> None:
    """held: the frames; shares, pulls: of each frame, row and head first the scores and their pulls, then the shares
    and the pulls of the scores; total: the sum of d_ask."""
    own, step, groups = length[pl.program_id(0)], pl.program_id(2), _groups(s)

    @pl.when(step < jnp.minimum(own, s.frames))
    def _() -> None:
        at = position[pl.ds(step, 1), :]

        def one(rows: Any) -> None:
            seen = x[0, 0, rows, :]
            held[step, rows, :] = seen
            z = seen.astype(jnp.float32) + at
            shares[step, rows, :] = _by_head([ask[0, e, rows, :] for e in range(s.heads)], z)
            pulls[step, rows, :] = _by_head([pull[0, e, rows, :] for e in range(s.heads)], z)

        groups(one)

    @pl.when(step == s.frames)
    def _() -> None:
        total[...] = jnp.zeros_like(total)
        groups(lambda rows: _softmax_pull(shares, pulls, rows, own))

    frame = step - s.frames

    @pl.when((frame >= 0) & (frame < own))
    def _() -> None:
        at = position[pl.ds(frame, 1), :]

        def one(rows: Any) -> None:
            z = held[frame, rows, :].astype(jnp.float32) + at
            share, d_score = shares[frame, rows, :], pulls[frame, rows, :]
            d_z = mean_pull[0, rows, :].astype(jnp.float32) / _frames_of(own)
            for e in range(s.heads):
                question, answer = (ref[0, e, rows, :].astype(jnp.float32) for ref in (ask, pull))
                d_z += share[:, e : e + 1] * answer + d_score[:, e : e + 1] * question
                total[e, rows, :] += d_score[:, e : e + 1] * z
            d_x[0, 0, rows, :] = d_z.astype(d_x.dtype)

        groups(one)

    @pl.when((frame >= 0) & (frame >= own))
    def _() -> None:
        d_x[...] = jnp.zeros_like(d_x)

    @pl.when(frame == s.frames - 1)
    def _() -> None:
        d_ask[0] = total[...].astype(d_ask.dtype)


def _softmax_pull(shares: Any, pulls: Any, rows: Any, own: Any) -> None:
    """Scores and pulls of all frames, in place, to shares and the pulls of the scores."""

    def over(frames: Callable[[Any], Any], join: Callable[[Any, Any], Any], start: float) -> Any:
        first = jnp.full((GROUP, LANES), start, jnp.float32)
        return jax.lax.fori_loop(0, own, lambda t, so_far: join(so_far, frames(t)), first)

    top = over(lambda t: shares[t, rows, :], jnp.maximum, LEAST)
    sums = jnp.maximum(over(lambda t: jnp.exp(shares[t, rows, :] - top), jnp.add, 0.0), 1e-30)
    inner = over(lambda t: jnp.exp(shares[t, rows, :] - top) * pulls[t, rows, :], jnp.add, 0.0) / sums

    def one(t: Any, _: None) -> None:
        share = jnp.exp(shares[t, rows, :] - top) / sums
        shares[t, rows, :] = share
        pulls[t, rows, :] = share * (pulls[t, rows, :] - inner)

    jax.lax.fori_loop(0, own, one, None)


def _groups(s: Sizes) -> Callable[[Callable[[Any], None]], None]:
    """What calls a function of every group of rows that holds some of the array."""
    inside = jnp.minimum(s.rows - pl.program_id(1) * s.block, s.block)
    count = jax.lax.div(inside + GROUP - 1, GROUP)

    def each(one: Callable[[Any], None]) -> None:
        def group(k: Any, _: None) -> None:
            one(pl.ds(pl.multiple_of(k * GROUP, GROUP), GROUP))

        jax.lax.fori_loop(0, count, group, None)

    return each


def _by_head(others: Sequence[Any], z: Any) -> Any:
    """[rows, lanes]: on the lane of each head its rows times those of z."""
    lane = jax.lax.broadcasted_iota(jnp.int32, (z.shape[0], LANES), 1)
    found = jnp.zeros((z.shape[0], LANES), jnp.float32)
    for e, other in enumerate(others):
        found = jnp.where(lane == e, jnp.sum(other.astype(jnp.float32) * z, axis=1, keepdims=True), found)
    return found


def _frames_of(own: Any) -> Any:
    return jnp.maximum(own, 1).astype(jnp.float32)


def _products(s: Sizes) -> int:
    """Of a number of a frame with one of a question."""
    return s.clips * s.frames * s.heads * s.rows * s.width


def _frame(s: Sizes) -> Block:
    """Steps behind a clip's end stay at its last frame, so that nothing more is fetched."""

    def at(c: Any, i: Any, t: Any, length: Any) -> tuple[Any, ...]:
        return c, jnp.minimum(t, jnp.maximum(length[c] - 1, 0)), i, 0

    return Block((s.clips, s.frames, s.rows, s.width), s.dtype, (1, 1, s.block, s.width), at)


def _pulled_frame(s: Sizes) -> Block:
    """The first one until frames are written."""

    def at(c: Any, i: Any, t: Any, length: Any) -> tuple[Any, ...]:
        return c, jnp.maximum(t - s.frames, 0), i, 0

    return Block((s.clips, s.frames, s.rows, s.width), s.dtype, (1, 1, s.block, s.width), at)


def _table(s: Sizes) -> Block:
    return Block((s.frames, s.width), jnp.float32, (s.frames, s.width), lambda c, i, t, length: (0, 0), True)


def _asks(s: Sizes) -> Block:
    one = (1, s.heads, s.block, s.width)
    return Block((s.clips, s.heads, s.rows, s.width), s.dtype, one, lambda c, i, t, length: (c, 0, i, 0))


def _rows(s: Sizes) -> Block:
    return Block((s.clips, s.rows, s.width), s.dtype, (1, s.block, s.width), lambda c, i, t, length: (c, i, 0))
