"""Pallas for GPUs: a program has a row of a clip in all its frames, and all questions of the row.

It goes through the width twice in blocks, once for the scores and once for the sums, so that the second time its frames
come from a cache. Backward likewise. Products of the frames and of their positions are summed one by one, for a sum
of the two would be rounded. Frames behind a clip's end are never read. No two programs write the same place.
"""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.launch_gpu import Launch, Part, block_of, mask_of, read, steps, write
from vidlmm.kernels.products import dot

BLOCK = 128
# Frames or heads in a program: what stands on one side of a product's tile.
MOST = 128


@dataclass(frozen=True)
class Sizes:
    """tall, wide: frames and heads that a tile has room for; block: columns of a product's step."""

    clips: int
    frames: int
    heads: int
    rows: int
    width: int
    dtype: Any
    tall: int
    wide: int
    block: int


def sizes_of(x: Any, ask: Any, block: int | None = None) -> Sizes:
    """Raises KernelError for another type of numbers, and for more than a program holds."""
    if x.dtype not in (jnp.bfloat16, jnp.float32):
        raise KernelError(f"got features {x.dtype}: bfloat16 or float32")
    clips, frames, rows, width = x.shape
    heads = ask.shape[1]
    if max(frames, heads) > MOST:
        raise KernelError(f"{frames} frames and {heads} heads; the GPU kernel takes {MOST} of each")
    tile = (block_of(frames, MOST), block_of(heads, MOST))
    return Sizes(clips, frames, heads, rows, width, x.dtype, *tile, block_of(width, BLOCK, block))


def forward_launch(s: Sizes) -> Launch:
    """Grid: rows, clips."""
    ins = (_frames(s, 2), _lengths(s), _table(s), _asks(s))
    return Launch("temporal_attend_gpu", (s.rows, s.clips), ins, (_asks(s), _means(s)))


def backward_launch(s: Sizes) -> Launch:
    """Grid: rows, clips."""
    ins = (_frames(s, 2), _lengths(s), _table(s), _asks(s, 2), _asks(s, 2), _means(s))
    return Launch("temporal_attend_gpu_dx", (s.rows, s.clips), ins, (_frames(s), _asks(s)))


def temporal_attend(
    x: jax.Array, length: jax.Array, position: jax.Array, ask: jax.Array, interpret: bool, block: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """See `vidlmm.kernels.temporal_attend`. block: columns of a product's step."""
    sizes = sizes_of(x, ask, block)
    return _attend(x, length.astype(jnp.int32), position.astype(x.dtype), ask, sizes, interpret)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend(x: Any, length: Any, position: Any, ask: Any, s: Sizes, interpret: bool) -> Any:
    return _attend_forward(x, length, position, ask, s, interpret)[0]


def _attend_forward(x: Any, length: Any, position: Any, ask: Any, s: Sizes, interpret: bool) -> tuple[Any, tuple]:
    out = forward_launch(s)(partial(_forward_body, s=s), x, length, position, ask, interpret=interpret)
    return out, (x, length, position, ask)


def _attend_backward(s: Sizes, interpret: bool, saved: tuple, pulls: Any) -> tuple[Any, None, None, Any]:
    d_x, d_ask = backward_launch(s)(partial(_backward_body, s=s), *saved, *pulls, interpret=interpret)
    return d_x, None, None, d_ask


_attend.defvjp(_attend_forward, _attend_backward)


class _Row:
    """What a program reads of its row, in blocks of columns."""

    def __init__(self, x: Any, length: Any, position: Any, s: Sizes):
        self.row, self.clip = pl.program_id(0), pl.program_id(1)
        self.own, self.s = length[self.clip], s
        self.frame, self.head = jnp.arange(s.tall), jnp.arange(s.wide)
        self.there = (self.frame < self.own)[:, None]
        self._x, self._position = x, position

    def columns(self, k: Any) -> tuple[Any, Any]:
        """Those of block k, and which of them there are."""
        at = k * self.s.block + jnp.arange(self.s.block)
        inside = mask_of(at, self.s.width, self.s.block)
        return at, None if inside is None else inside[None, :]

    def frames(self, k: Any) -> tuple[Any, Any]:
        """[T, block] twice: the frames and their positions, zeros behind the clip's end."""
        at, inside = self.columns(k)
        seen = self._x.at[self.clip, self.frame[:, None], self.row, at[None, :]]
        place = self._position.at[self.frame[:, None], at[None, :]]
        return read(seen, self.there, inside), read(place, self.there, inside)

    def asked(self, ref: Any, k: Any) -> Any:
        """[E, block]"""
        at, inside = self.columns(k)
        return read(ref.at[self.clip, self.head[:, None], self.row, at[None, :]], self.inside_heads, inside)

    def write_asked(self, ref: Any, k: Any, values: Any) -> None:
        at, inside = self.columns(k)
        write(ref.at[self.clip, self.head[:, None], self.row, at[None, :]], values, self.inside_heads, inside)

    @property
    def inside_heads(self) -> Any:
        return (self.head < self.s.heads)[:, None]

    def shares(self, scores: Any) -> Any:
        """[T, E]: the softmax over the clip's frames, zeros behind its end."""
        scores = jnp.where(self.there, scores, -1e30)
        share = jnp.where(self.there, jnp.exp(scores - jnp.max(scores, axis=0)[None, :]), 0)
        return share / jnp.maximum(jnp.sum(share, axis=0), 1e-30)[None, :]


def _times(frames: tuple[Any, Any], other: Any) -> Any:
    """[T, E]: z times the rows of `other`."""
    return dot(frames[0], other, (1, 1)) + dot(frames[1], other, (1, 1))


def _summed(weights: Any, frames: tuple[Any, Any]) -> Any:
    """[E, block]: frames z by their weights [T, E]."""
    weights = weights.astype(frames[0].dtype)
    return dot(weights, frames[0], (0, 0)) + dot(weights, frames[1], (0, 0))


def _forward_body(x: Any, length: Any, position: Any, ask: Any, weighted: Any, mean: Any, *, s: Sizes) -> None:
    row, blocks = _Row(x, length, position, s), steps(s.width, s.block)

    def score(k: Any, so_far: Any) -> Any:
        return so_far + _times(row.frames(k), row.asked(ask, k))

    share = row.shares(jax.lax.fori_loop(0, blocks, score, jnp.zeros((s.tall, s.wide), jnp.float32)))

    def out(k: Any, _: None) -> None:
        frames = row.frames(k)
        row.write_asked(weighted, k, _summed(share, frames))
        at, inside = row.columns(k)
        total = jnp.sum(frames[0].astype(jnp.float32), axis=0) / jnp.maximum(row.own, 1).astype(jnp.float32)
        write(mean.at[row.clip, row.row, at], total, None if inside is None else inside[0])

    jax.lax.fori_loop(0, blocks, out, None)


def _backward_body(
    x: Any,
    length: Any,
    position: Any,
    ask: Any,
    pull: Any,
    mean_pull: Any,
    d_x: Any,
    d_ask: Any,
    *,
    s: Sizes,
) -> None:
    row, blocks = _Row(x, length, position, s), steps(s.width, s.block)

    def score(k: Any, so_far: Any) -> Any:
        frames = row.frames(k)
        return so_far[0] + _times(frames, row.asked(ask, k)), so_far[1] + _times(frames, row.asked(pull, k))

    none = jnp.zeros((s.tall, s.wide), jnp.float32)
    scores, pulled = jax.lax.fori_loop(0, blocks, score, (none, none))
    share = row.shares(scores)
    d_score = share * (pulled - jnp.sum(share * pulled, axis=0)[None, :])
    each = row.there / jnp.maximum(row.own, 1).astype(jnp.float32)

    def out(k: Any, _: None) -> None:
        row.write_asked(d_ask, k, _summed(d_score, row.frames(k)))
        at, inside = row.columns(k)
        d_z = dot(share.astype(s.dtype), row.asked(pull, k)) + dot(d_score.astype(s.dtype), row.asked(ask, k))
        even = read(mean_pull.at[row.clip, row.row, at], None if inside is None else inside[0])
        d_z += each * even.astype(jnp.float32)[None, :]
        there = mask_of(row.frame, s.frames, s.tall)
        place = d_x.at[row.clip, row.frame[:, None], row.row, at[None, :]]
        write(place, d_z, None if there is None else there[:, None], inside)

    jax.lax.fori_loop(0, blocks, out, None)


def _frames(s: Sizes, times: int = 1) -> Part:
    """times: that a program asks for them."""
    shape = (s.clips, s.frames, s.rows, s.width)
    return Part(shape, s.dtype, (0, 1), times * prod(shape))


def _asks(s: Sizes, times: int = 1) -> Part:
    shape = (s.clips, s.heads, s.rows, s.width)
    return Part(shape, s.dtype, (0, 1), times * prod(shape))


def _means(s: Sizes) -> Part:
    return Part((s.clips, s.rows, s.width), s.dtype, (0, 1))


def _table(s: Sizes) -> Part:
    return Part((s.frames, s.width), s.dtype, (), 2 * s.frames * s.width)


def _lengths(s: Sizes) -> Part:
    return Part((s.clips,), jnp.int32, (1,))
