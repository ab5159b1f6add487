"""Pallas for TPU: frames are pooled on the chip by constant matrices that leave room for the learned rows.

A step holds so many frames that their rows fill whole tiles of memory, some columns wide. Each frame is one product
M @ x, whose rows are laid where they belong; the block leaves when it is full. Backward the same way round.
"""

from dataclasses import dataclass
from functools import partial
from math import gcd
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from vidlmm.kernels.blocks import columns, whole_width
from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.launch import Block, Launch
from vidlmm.kernels.products import dot, pool_rows, unpool_rows
from vidlmm.kernels.slowfast_pool.rows import Rows

# Rows of a tile in main memory.
TILE = 8
# Bytes of features in one step, and what the constants may take.
STEP = 10 * 2**20
CONSTANTS = 12 * 2**20
MOST_WIDTH = 1024


@dataclass(frozen=True)
class Setup:
    """What is static of a call. block: columns in a step, None by rule."""

    rows: Rows
    frames: int
    block: int | None = None
    interpret: bool = False


@dataclass(frozen=True)
class Sizes:
    """group: frames in a step; held: their rows; total: rows of the video."""

    frames: int
    tokens: int
    width: int
    dtype: Any
    group: int
    held: int
    total: int
    block: int

    @property
    def grid(self) -> tuple[int, int]:
        return self.width // self.block, -(-self.frames // self.group)


def sizes_of(width: int, dtype: Any, setup: Setup) -> Sizes:
    """Raises KernelError for what does not fit on the chip."""
    rows, frames, tokens = setup.rows, setup.frames, setup.rows.side**2
    if dtype not in (jnp.bfloat16, jnp.float32):
        raise KernelError(f"got features {dtype}: bfloat16 or float32")
    whole_width(width, MOST_WIDTH, "features")
    each = jnp.dtype(dtype).itemsize
    period = max(rows.every, 1)
    group = min(period * (TILE // gcd(rows.of(period), TILE)), frames)
    block = columns(width, STEP // (group * tokens * each), setup.block)
    constants = sum(rows.spread(level).size for level in range(rows.levels)) * each
    if group * tokens * block * each > 2 * STEP or constants > CONSTANTS:
        raise KernelError(
            f"{group} frames of {tokens} tokens, {block} columns at a time, take more than a step holds "
            f"({STEP} bytes); the TPU kernel takes grids up to 27 x 27 and patterns up to 3 frames"
        )
    return Sizes(frames, tokens, width, dtype, group, rows.of(group), rows.of(frames), block)


def forward_launch(s: Sizes, rows: Rows) -> Launch:
    """Grid: columns, groups of frames."""
    special = Block((2, s.width), s.dtype, (2, s.block), lambda c, g: (0, c))
    marks = _constant_block((s.held, 2), jnp.float32)
    ins = (_features(s), special, marks, *_pooling(s, rows))
    scratch = (((s.held, s.block), jnp.float32),)
    return Launch("slowfast_pool_tpu", s.grid, ins, (_rows(s),), scratch, (True, True), usual=())


def backward_launch(s: Sizes, rows: Rows) -> Launch:
    """Grid as forward. The largest rows of windows are found again, so that "max" reads the features."""
    marks = _constant_block((2, s.held), jnp.float32)
    ins = (_rows(s), marks, *_pooling(s, rows), *([_features(s)] if rows.mode == "max" else []))
    outs = (_features(s), Block((2, s.width), jnp.float32, (2, s.block), lambda c, g: (0, c)))
    scratch = (((s.held, s.block), jnp.float32),)
    return Launch("slowfast_pool_tpu_dx", s.grid, ins, outs, scratch, (True, False), usual=())


def slowfast_pool(x: jax.Array, newline: jax.Array | None, faster: jax.Array | None, setup: Setup) -> jax.Array:
    """See `vidlmm.kernels.slowfast_pool`."""
    sizes_of(x.shape[2], x.dtype, setup)
    none = jnp.zeros(x.shape[2], x.dtype)
    special = jnp.stack([none if one is None else one.astype(x.dtype) for one in (newline, faster)])
    return _slowfast_pool(x, special, setup)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _slowfast_pool(x: Any, special: Any, setup: Setup) -> Any:
    return _forward(x, special, setup)[0]


def _forward(x: Any, special: Any, setup: Setup) -> tuple[Any, tuple]:
    s, rows = sizes_of(x.shape[2], x.dtype, setup), setup.rows
    marks = jnp.asarray(rows.learned(s.group).T, jnp.float32)
    body = partial(_forward_step, rows=rows, s=s)
    out = forward_launch(s, rows)(body, x, special, marks, *_poolings(s, rows), interpret=setup.interpret)
    # Features are needed again only where the largest are to be found.
    return out, (x,) if rows.mode == "max" else ()


def _backward(setup: Setup, saved: tuple, pull: Any) -> tuple[Any, Any]:
    s, rows = sizes_of(pull.shape[1], pull.dtype, setup), setup.rows
    marks = jnp.asarray(rows.learned(s.group), jnp.float32)
    body = partial(_backward_step, rows=rows, s=s)
    arrays = (pull, marks, *_poolings(s, rows), *saved)
    d_x, d_special = backward_launch(s, rows)(body, *arrays, interpret=setup.interpret)
    return d_x, d_special.astype(s.dtype)


_slowfast_pool.defvjp(_forward, _backward)


def _forward_step(x: Any, special: Any, marks: Any, *refs: Any, rows: Rows, s: Sizes) -> None:
    *poolings, out, held = refs
    for number, (level, first, count) in enumerate(rows.places(s.group)):

        @pl.when(pl.program_id(1) * s.group + number < s.frames)
        def _(number: int = number, level: int = level, first: int = first, count: int = count) -> None:
            held[first : first + count, :] = pool_rows(poolings[level], x[number])

    learned = marks[:, 0:1] * special[0:1].astype(jnp.float32) + marks[:, 1:2] * special[1:2].astype(jnp.float32)
    out[...] = (held[...] + learned).astype(out.dtype)


def _backward_step(pull: Any, marks: Any, *refs: Any, rows: Rows, s: Sizes) -> None:
    poolings, (*seen, d_x, d_special, held) = refs[: rows.levels], refs[rows.levels :]
    group = pl.program_id(1)
    # Behind the last row of the video stands whatever was there.
    there = group * s.held + jax.lax.broadcasted_iota(jnp.int32, held.shape, 0) < s.total
    held[...] = jnp.where(there, pull[...].astype(jnp.float32), 0)
    for number, (level, first, count) in enumerate(rows.places(s.group)):

        @pl.when(group * s.group + number < s.frames)
        def _(number: int = number, level: int = level, first: int = first, count: int = count) -> None:
            own = held[first : first + count, :].astype(s.dtype)
            rows_seen = seen[0][number] if seen else None
            d_x[number] = unpool_rows(poolings[level], own, rows_seen).astype(d_x.dtype)

    @pl.when(group == 0)
    def _() -> None:
        d_special[...] = jnp.zeros_like(d_special)

    d_special[...] += dot(marks[...], held[...])


def _features(s: Sizes) -> Block:
    block = (s.group, s.tokens, s.block)
    return Block((s.frames, s.tokens, s.width), s.dtype, block, lambda c, g: (g, 0, c))


def _rows(s: Sizes) -> Block:
    return Block((s.total, s.width), s.dtype, (s.held, s.block), lambda c, g: (g, c))


def _poolings(s: Sizes, rows: Rows) -> list[jax.Array]:
    return [jnp.asarray(rows.spread(level), s.dtype) for level in range(rows.levels)]


def _pooling(s: Sizes, rows: Rows) -> list[Block]:
    return [_constant_block(rows.spread(level).shape, s.dtype) for level in range(rows.levels)]


def _constant_block(shape: tuple[int, ...], dtype: Any) -> Block:
    return Block(shape, dtype, shape, lambda c, g: (0,) * len(shape), True)


def traffic(s: Sizes, rows: Rows) -> dict[str, int]:
    """Bytes that each kernel moves."""
    return {launch.name: launch.moved() for launch in (forward_launch(s, rows), backward_launch(s, rows))}
