"""Pallas for GPUs: a program for each row of the video, which fetches the tokens of its cell and writes their sum.

Where the tokens stand is read from small tables. Backward turns them round: a program for each token, which fetches
the rows that took it; "max" looks at its window again. The learned rows' gradients are sums over their places, in
plain JAX.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.launch_gpu import Launch, Part, block_of, mask_of, read, steps, write
from vidlmm.kernels.slowfast_pool.rows import Rows
from vidlmm.kernels.slowfast_pool.tables import TOGETHER, Tables, tables_of

BLOCK = 1024


@dataclass(frozen=True)
class Setup:
    """What is static of a call. block: columns of a program, None by rule."""

    rows: Rows
    frames: int
    block: int | None = None
    interpret: bool = False


@dataclass(frozen=True)
class Sizes:
    """total: rows of the video; block: columns of a program."""

    frames: int
    tokens: int
    width: int
    dtype: Any
    total: int
    block: int
    largest: bool


def sizes_of(width: int, dtype: Any, setup: Setup) -> Sizes:
    """Raises KernelError for another type of numbers."""
    if dtype not in (jnp.bfloat16, jnp.float32):
        raise KernelError(f"got features {dtype}: bfloat16 or float32")
    rows, block = setup.rows, block_of(width, BLOCK, setup.block)
    return Sizes(setup.frames, rows.side**2, width, dtype, rows.of(setup.frames), block, rows.mode == "max")


def forward_launch(s: Sizes, t: Tables) -> Launch:
    """Grid: columns, rows of the video."""
    ins = (
        _features(s, (0, 1), t.fetched),
        Part((2, s.width), s.dtype, (0, 1), int(np.count_nonzero(t.places[:, 2])) * s.width),
        _table(t.places, (1,)),
        *(_table(one, (1,), s.total * one.shape[1]) for one in (t.tokens, t.shares)),
    )
    out = Part((s.total, s.width), s.dtype, (0, 1))
    return Launch("slowfast_pool_gpu", (steps(s.width, s.block), s.total), ins, (out,))


def backward_launch(s: Sizes, t: Tables) -> Launch:
    """Grid: columns, tokens, frames. Where the largest are to be found, windows are read twice."""
    lines, all_axes = (t.tokens, t.shares) if s.largest else (), (0, 1, 2)
    ins = (
        Part((s.total, s.width), s.dtype, all_axes, t.fetched * s.width),
        _table(t.frames, (2,)),
        *(_table(one, (1, 2), s.frames * one[0].size) for one in (t.rows, t.parts)),
        *([_features(s, all_axes, t.fetched + 2 * t.windows)] if s.largest else []),
        *(_table(one, (1, 2), t.fetched * one.shape[1]) for one in lines),
    )
    return Launch("slowfast_pool_gpu_dx", (steps(s.width, s.block), s.tokens, s.frames), ins, (_features(s, all_axes),))


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
    s, t = sizes_of(x.shape[2], x.dtype, setup), tables_of(setup.rows, setup.frames)
    arrays = (x, special, t.places, t.tokens, t.shares)
    out = forward_launch(s, t)(partial(_forward_body, s=s), *arrays, interpret=setup.interpret)
    # Features are needed again only where the largest are to be found.
    return out, (x,) if s.largest else ()


def _backward(setup: Setup, saved: tuple, pull: Any) -> tuple[Any, Any]:
    s, t = sizes_of(pull.shape[1], pull.dtype, setup), tables_of(setup.rows, setup.frames)
    again = (*saved, t.tokens, t.shares) if s.largest else ()
    arrays = (pull, t.frames, t.rows, t.parts, *again)
    d_x = backward_launch(s, t)(partial(_backward_body, s=s), *arrays, interpret=setup.interpret)
    learned = [np.flatnonzero(t.places[:, 2] == number) for number in (1, 2)]
    d_special = jnp.stack([jnp.sum(pull[at].astype(jnp.float32), axis=0) for at in learned])
    return d_x, d_special.astype(s.dtype)


_slowfast_pool.defvjp(_forward, _backward)


def _forward_body(x: Any, special: Any, places: Any, tokens: Any, shares: Any, out: Any, *, s: Sizes) -> None:
    row = pl.program_id(1)
    at, inside = _columns(s)
    frame, line, learned, times = (places[row, k] for k in range(4))

    def some(number: Any, total: Any) -> Any:
        seen, share = _window(x, frame, tokens, shares, line, number, at, inside)
        if s.largest:
            return jnp.maximum(total, jnp.max(jnp.where(share > 0, seen, -jnp.inf), axis=0))
        return total + jnp.sum(seen * share, axis=0)

    start = jnp.full(s.block, -jnp.inf if s.largest else 0.0, jnp.float32)
    total = jax.lax.fori_loop(0, times, some, start)
    own = read(special.at[jnp.maximum(learned - 1, 0), at], inside, jnp.full(s.block, learned > 0))
    write(out.at[row, at], jnp.where(learned > 0, own.astype(jnp.float32), total), inside)


def _backward_body(pull: Any, frames: Any, rows: Any, parts: Any, *refs: Any, s: Sizes) -> None:
    *again, out = refs
    token, frame = pl.program_id(1), pl.program_id(2)
    at, inside = _columns(s)
    first, level = frames[frame, 0], frames[frame, 1]
    total = jnp.zeros(s.block, jnp.float32)
    for k in range(rows.shape[2]):
        row, part = rows[level, token, k], parts[level, token, k]
        pulled = read(pull.at[first + row, at], inside, jnp.full(s.block, part > 0)).astype(jnp.float32)
        if s.largest:
            pulled *= _won(again, frame, token, frames[frame, 2] + row, at, inside, s)
        total += part * pulled
    write(out.at[frame, token, at], total, inside)


def _won(again: list[Any], frame: Any, token: Any, line: Any, at: Any, inside: Any, s: Sizes) -> Any:
    """1 where the token is the largest of its window, a fair part where others are as large, 0 elsewhere."""
    x, tokens, shares = again
    times = tokens.shape[1] // TOGETHER

    def largest(number: Any, top: Any) -> Any:
        seen, share = _window(x, frame, tokens, shares, line, number, at, inside)
        return jnp.maximum(top, jnp.max(jnp.where(share > 0, seen, -jnp.inf), axis=0))

    top = jax.lax.fori_loop(0, times, largest, jnp.full(s.block, -jnp.inf, jnp.float32))

    def equal(number: Any, count: Any) -> Any:
        seen, share = _window(x, frame, tokens, shares, line, number, at, inside)
        return count + jnp.sum(jnp.where((share > 0) & (seen == top[None, :]), 1.0, 0.0), axis=0)

    count = jax.lax.fori_loop(0, times, equal, jnp.zeros(s.block, jnp.float32))
    own = read(x.at[frame, token, at], inside).astype(jnp.float32)
    return jnp.where(own == top, 1 / jnp.maximum(count, 1), 0)


def _window(
    x: Any, frame: Any, tokens: Any, shares: Any, line: Any, number: Any, at: Any, inside: Any
) -> tuple[Any, Any]:
    """Four tokens of a line [4, block] and their shares [4, 1]; what has no share is not fetched, and zero."""
    which = number * TOGETHER + jnp.arange(TOGETHER)
    share = shares[line, which][:, None]
    columns = None if inside is None else inside[None, :]
    there = jnp.broadcast_to(share > 0, (TOGETHER, at.shape[0]))
    seen = read(x.at[frame, tokens[line, which][:, None], at[None, :]], there, columns)
    return seen.astype(jnp.float32), share


def _columns(s: Sizes) -> tuple[Any, Any]:
    at = pl.program_id(0) * s.block + jnp.arange(s.block)
    return at, mask_of(at, s.width, s.block)


def _features(s: Sizes, along: tuple[int, ...], tokens: int | None = None) -> Part:
    numbers = None if tokens is None else tokens * s.width
    return Part((s.frames, s.tokens, s.width), s.dtype, along, numbers)


def _table(table: np.ndarray, along: tuple[int, ...], numbers: int | None = None) -> Part:
    return Part(table.shape, table.dtype, along, numbers)
