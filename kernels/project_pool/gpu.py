"""Pallas for GPUs: a matrix product per tap, which adds up pooled cells in registers.

Forward, a program makes a tile of cells x columns: for each token that a cell takes, activation(x @ w + b) of that
token, which joins the cell at its share. Tokens that no cell takes are never projected.
Backward, a tile of tokens x columns is made again and d_z, the pull before the activation, is written: one array of
the hidden layer's size, for a GPU's processor does not hold a gradient as wide as the features beside it. The
gradients are plain products with it. "max" makes all tokens of a window to see which is the largest.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from vidlmm.kernels.activations import Activation, activate, erf_by_exp, slope
from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.grids import Mode, pooling, side_of
from vidlmm.kernels.launch_gpu import Launch, Part, block_of, mask_of, read, steps, write
from vidlmm.kernels.products import dot
from vidlmm.kernels.taps import taps, turned


@dataclass(frozen=True)
class Tile:
    """rows, columns of a program, and features that a step of its products takes."""

    rows: int
    columns: int
    features: int
    warps: int
    stages: int


# bfloat16 keeps two tiles of float32 sums in registers, "max" backward five, so its tiles are small; float32 is not
# rounded and takes the ordinary units.
WIDE, SMALL, FLOAT = Tile(128, 128, 64, 8, 3), Tile(64, 64, 64, 4, 3), Tile(64, 64, 32, 4, 2)


@dataclass(frozen=True)
class Setup:
    """What is static of a call. block: columns of a tile, None by rule."""

    mode: Mode
    stride: int
    activation: Activation
    block: int | None = None
    interpret: bool = False


@dataclass(frozen=True)
class Sizes:
    """frames: of the buffer; chosen: those to pool; tokens, features, width: N, D, W."""

    frames: int
    chosen: int
    tokens: int
    features: int
    width: int
    dtype: Any
    forward: Tile
    backward: Tile


@dataclass(frozen=True)
class Tables:
    """tokens, shares: [P, K] of each cell; used: [U] the tokens that some cell takes; cells, parts: [U, K'] the cells
    that take it; window: [U, K''] the tokens among which it may be the largest, itself alone where none is looked for.
    """

    tokens: np.ndarray
    shares: np.ndarray
    used: np.ndarray
    cells: np.ndarray
    parts: np.ndarray
    window: np.ndarray


def tables_of(s: Sizes, setup: Setup) -> Tables:
    """From the matrices that the TPU's kernel multiplies with."""
    matrices = pooling(side_of(s.tokens), setup.mode, setup.stride)
    tokens, shares = taps(matrices)
    cells, parts = turned(matrices)
    used = np.flatnonzero(np.any(parts > 0, axis=1)).astype(np.int32)
    window = tokens[cells[used, 0]] if setup.mode == "max" else used[:, None]
    return Tables(tokens, shares, used, cells[used], parts[used], window)


def sizes_of(x: Any, weight: Any, chosen: int, setup: Setup) -> Sizes:
    """Raises KernelError for types that do not belong together."""
    frames, tokens, features = x.shape
    width = weight.shape[1]
    if x.dtype not in (jnp.bfloat16, jnp.float32) or weight.dtype != x.dtype:
        raise KernelError(f"got features {x.dtype} and a layer {weight.dtype}: both bfloat16 or both float32")
    wide = FLOAT if x.dtype == jnp.float32 else WIDE
    small = FLOAT if x.dtype == jnp.float32 else SMALL
    tiles = (_fitting(tile, features, width, setup.block) for tile in (wide, small if setup.mode == "max" else wide))
    return Sizes(frames, chosen, tokens, features, width, x.dtype, *tiles)


def _fitting(tile: Tile, features: int, width: int, chosen: int | None) -> Tile:
    columns = block_of(width, tile.columns, chosen)
    return Tile(tile.rows, columns, block_of(features, tile.features), tile.warps, tile.stages)


def forward_launch(s: Sizes, t: Tables) -> Launch:
    """Grid: columns, cells."""
    tile, (cells, most) = s.forward, t.tokens.shape
    rows = s.chosen * cells
    grid = (steps(s.width, tile.columns), steps(rows, tile.rows))
    # Of each tap a tile reads its tokens, and the columns of the layer again.
    taken = s.chosen * int(np.count_nonzero(t.shares)) * s.features
    ins = (
        Part((s.frames * s.tokens, s.features), s.dtype, (1,), taken),
        *_layer(s, most),
        Part((s.chosen,), jnp.int32, (1,)),
        *(Part((cells, most), one.dtype, (1,), rows * most) for one in (t.tokens, t.shares)),
    )
    out = Part((rows, s.width), s.dtype, (0, 1))
    return Launch("project_pool_gpu", grid, ins, (out,), tile.warps, tile.stages)


def backward_launch(s: Sizes, t: Tables) -> Launch:
    """Grid: columns, tokens that are used. The second output has the sums of d_z over each tile's tokens."""
    tile, (used, most), cells = s.backward, t.window.shape, t.tokens.shape[0]
    rows = s.chosen * used
    grid = (steps(s.width, tile.columns), steps(rows, tile.rows))
    ins = (
        Part((s.frames * s.tokens, s.features), s.dtype, (1,), rows * most * s.features),
        *_layer(s, most),
        Part((s.chosen * cells, s.width), s.dtype, (0, 1), s.chosen * int(np.count_nonzero(t.parts)) * s.width),
        Part((s.chosen,), jnp.int32, (1,)),
        Part((used,), jnp.int32, (1,), rows),
        *(Part(one.shape, one.dtype, (1,), rows * one.shape[1]) for one in (t.cells, t.parts, t.window)),
    )
    outs = (Part((rows, s.width), s.dtype, (0, 1)), Part((grid[1], s.width), jnp.float32, (0, 1)))
    return Launch("project_pool_gpu_dz", grid, ins, outs, tile.warps, tile.stages)


def project_pool(x: jax.Array, weight: jax.Array, bias: jax.Array, frames: jax.Array | None, setup: Setup) -> jax.Array:
    """See `vidlmm.kernels.project_pool`."""
    sizes_of(x, weight, x.shape[0] if frames is None else frames.shape[0], setup)
    return _project_pool(x, weight, bias.astype(weight.dtype), frames, setup)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _project_pool(x: Any, weight: Any, bias: Any, frames: Any, setup: Setup) -> Any:
    return _forward(x, weight, bias, frames, setup)[0]


def _forward(x: Any, weight: Any, bias: Any, frames: Any, setup: Setup) -> tuple[Any, tuple]:
    at = jnp.arange(x.shape[0], dtype=jnp.int32) if frames is None else frames.astype(jnp.int32)
    s = sizes_of(x, weight, at.shape[0], setup)
    t = tables_of(s, setup)
    arrays = (x.reshape(-1, s.features), weight, bias, at, t.tokens, t.shares)
    body = partial(_forward_body, s=s, setup=setup)
    out = forward_launch(s, t)(body, *arrays, interpret=setup.interpret)
    return out.reshape(s.chosen, -1, s.width), (x, weight, bias, frames, at)


def _backward(setup: Setup, saved: tuple, pull: Any) -> tuple[Any, Any, Any, None]:
    x, weight, bias, frames, at = saved
    s = sizes_of(x, weight, at.shape[0], setup)
    t = tables_of(s, setup)
    flat = x.reshape(-1, s.features)
    arrays = (flat, weight, bias, pull.reshape(-1, s.width), at, t.used, t.cells, t.parts, t.window)
    body = partial(_backward_body, s=s, setup=setup)
    d_z, d_bias = backward_launch(s, t)(body, *arrays, interpret=setup.interpret)
    # Tokens that nothing takes, and frames that are not chosen, have no gradient and take no part in the layer's.
    rows = (at[:, None] * s.tokens + t.used).reshape(-1)
    every = frames is None and t.used.size == s.tokens
    d_x = dot(d_z, weight, (1, 1)).astype(s.dtype)
    d_x = d_x if every else jnp.zeros_like(flat).at[rows].set(d_x, unique_indices=True)
    d_weight = dot(flat if every else jnp.take(flat, rows, axis=0), d_z, (0, 0))
    d_bias = jnp.sum(d_bias, axis=0)
    return d_x.reshape(x.shape), d_weight.astype(weight.dtype), d_bias.astype(bias.dtype), None


_project_pool.defvjp(_forward, _backward)


def _forward_body(
    x: Any, w: Any, b: Any, at: Any, tokens: Any, shares: Any, out: Any, *, s: Sizes, setup: Setup
) -> None:
    tile, largest = s.forward, setup.mode == "max"
    row, seen, inside = _rows(tile, out.shape[0])
    column, there = _columns(tile, s.width)
    frame, cell = jax.lax.div(seen, tokens.shape[0]), jax.lax.rem(seen, tokens.shape[0])
    first = at[frame] * s.tokens

    def tap(k: Any, total: Any) -> Any:
        share = shares[cell, k][:, None]
        z = _hidden(x, w, b, first + tokens[cell, k], column, there, s, tile)
        h = activate(z, setup.activation, erf_by_exp)
        return jnp.maximum(total, jnp.where(share > 0, h, -jnp.inf)) if largest else total + share * h

    start = jnp.full((tile.rows, tile.columns), -jnp.inf if largest else 0.0, jnp.float32)
    total = jax.lax.fori_loop(0, tokens.shape[1], tap, start)
    write(out.at[row[:, None], column[None, :]], total, _line(inside), _row(there))


def _backward_body(
    x: Any, w: Any, b: Any, pull: Any, at: Any, used: Any, cells: Any, parts: Any, window: Any, *outs: Any,
    s: Sizes, setup: Setup,
) -> None:  # fmt: skip
    d_z, d_b = outs
    tile = s.backward
    row, seen, inside = _rows(tile, d_z.shape[0])
    column, there = _columns(tile, s.width)
    frame, token = jax.lax.div(seen, used.shape[0]), jax.lax.rem(seen, used.shape[0])
    first = at[frame] * s.tokens
    pulled = jnp.zeros((tile.rows, tile.columns), jnp.float32)
    for k in range(cells.shape[1]):
        part = parts[token, k]
        source = frame * (pull.shape[0] // at.shape[0]) + cells[token, k]
        part_of = read(pull.at[source[:, None], column[None, :]], _row(there)).astype(jnp.float32)
        pulled += part[:, None] * part_of
    if setup.mode == "max":
        z, won = _largest(x, w, b, first, used[token], window, token, column, there, s, setup)
        pulled *= won
    else:
        z = _hidden(x, w, b, first + used[token], column, there, s, tile)
    found = pulled * slope(z, setup.activation, erf_by_exp)
    write(d_z.at[row[:, None], column[None, :]], found, _line(inside), _row(there))
    if inside is not None:
        found = jnp.where(inside[:, None], found, 0)
    write(d_b.at[pl.program_id(1), column], jnp.sum(found, axis=0), there)


def _largest(
    x: Any, w: Any, b: Any, first: Any, own: Any, window: Any, token: Any, column: Any, there: Any,
    s: Sizes, setup: Setup,
) -> tuple[Any, Any]:  # fmt: skip
    """The token's hidden columns before the activation, and 1 where they are the largest of its window, a fair part
    where others are as large, 0 elsewhere."""
    tile = s.backward
    shape = (tile.rows, tile.columns)

    def one(k: Any, state: tuple) -> tuple:
        top, count, mine, own_z = state
        which = window[token, k]
        z = _hidden(x, w, b, first + which, column, there, s, tile)
        h = activate(z, setup.activation, erf_by_exp)
        count = jnp.where(h > top, 1.0, count + jnp.where(h == top, 1.0, 0.0))
        itself = (which == own)[:, None]
        return jnp.maximum(top, h), count, jnp.where(itself, h, mine), jnp.where(itself, z, own_z)

    nothing = jnp.zeros(shape, jnp.float32)
    start = (jnp.full(shape, -jnp.inf, jnp.float32), nothing, nothing, nothing)
    top, count, mine, own_z = jax.lax.fori_loop(0, window.shape[1], one, start)
    return own_z, jnp.where(mine == top, 1 / count, 0)


def _hidden(x: Any, w: Any, b: Any, rows: Any, column: Any, there: Any, s: Sizes, tile: Tile) -> Any:
    """[rows, columns] of x @ w + b in float32, for these rows of x."""

    def step(i: Any, total: Any) -> Any:
        at = i * tile.features + jnp.arange(tile.features)
        inside = mask_of(at, s.features, tile.features)
        a = read(x.at[rows[:, None], at[None, :]], _row(inside))
        return total + dot(a, read(w.at[at[:, None], column[None, :]], _line(inside), _row(there)))

    start = jnp.zeros((tile.rows, tile.columns), jnp.float32)
    total = jax.lax.fori_loop(0, steps(s.features, tile.features), step, start)
    return total + read(b.at[column], there).astype(jnp.float32)[None, :]


def _rows(tile: Tile, rows: int) -> tuple[Any, Any, Any]:
    """The tile's rows, those to be read (the last again where there are no more), and which there are."""
    row = pl.program_id(1) * tile.rows + jnp.arange(tile.rows)
    inside = mask_of(row, rows, tile.rows)
    return row, row if inside is None else jnp.minimum(row, rows - 1), inside


def _columns(tile: Tile, width: int) -> tuple[Any, Any]:
    column = pl.program_id(0) * tile.columns + jnp.arange(tile.columns)
    return column, mask_of(column, width, tile.columns)


def _line(mask: Any) -> Any:
    return None if mask is None else mask[:, None]


def _row(mask: Any) -> Any:
    return None if mask is None else mask[None, :]


def _layer(s: Sizes, times: int) -> tuple[Part, Part]:
    """Columns of the layer, which a program reads this many times."""
    return (
        Part((s.features, s.width), s.dtype, (0,), times * s.features * s.width),
        Part((s.width,), s.dtype, (0,), times * s.width),
    )
