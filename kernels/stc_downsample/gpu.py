"""Pallas for GPUs: tiles of matrix products, whose rows are fetched from where they stand: no windows are written.

Windows do not overlap: a token belongs to one cell and one of its eight taps. Forward, a tile of cells x columns goes
through taps and features and adds up in float32 registers; a tap of which a tile has no token costs nothing. Where
gradients follow, what SiLU takes is kept.
Backward the pull before SiLU is plain JAX. Of each tap the tokens are listed by counting: their gradients are their
cells' pulls times the tap's weights, and the weights' gradient is the sum over them in one program, in one order.
Tokens that stand in no window get zeros.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.grids import side_of
from vidlmm.kernels.launch_gpu import Launch, Part, block_of, mask_of, read, steps, write
from vidlmm.kernels.products import dot
from vidlmm.kernels.stc_downsample.launches import Setup
from vidlmm.kernels.stc_downsample.windows import STEP, Windows

PLACES = STEP**3


@dataclass(frozen=True)
class Tile:
    """rows: cells or tokens; columns: of the output; features: of a step forward, of a tile backward; step: columns or
    tokens of a step backward."""

    rows: int
    columns: int
    features: int
    step: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Sizes:
    """features, width: D, W."""

    clips: int
    windows: Windows
    features: int
    width: int
    dtype: Any
    forward: Tile
    backward: Tile

    @property
    def cells(self) -> int:
        return self.clips * self.windows.steps * self.windows.cells

    @property
    def tokens(self) -> int:
        return self.clips * self.windows.frames * self.windows.side**2

    @property
    def half(self) -> tuple[int, int]:
        """Along time and along a side, the most tokens with the same place in their windows."""
        return -(-self.windows.frames // STEP), -(-self.windows.side // STEP)

    @property
    def each(self) -> int:
        """The most tokens of one tap."""
        frames, side = self.half
        return self.clips * frames * side**2

    @property
    def weights(self) -> tuple[int, int, int]:
        return PLACES, self.features, self.width


def sizes_of(x: Any, weight: Any, setup: Setup) -> Sizes:
    """Raises KernelError for windows of another size, and types that do not belong together."""
    clips, frames, tokens, features = x.shape
    if x.dtype not in (jnp.bfloat16, jnp.float32) or weight.dtype != x.dtype:
        raise KernelError(f"got features {x.dtype} and weights {weight.dtype}: both bfloat16 or both float32")
    if weight.shape[:3] != (STEP, STEP, STEP) or setup.padding not in (0, 1):
        raise KernelError(
            f"windows of {weight.shape[:3]} with padding {setup.padding}: the GPU kernel takes (2, 2, 2) and 0 or 1"
        )
    width, windows = weight.shape[4], Windows(frames, side_of(tokens), setup.padding)
    # bfloat16 multiplies on matrix units; float32 is not rounded and takes the ordinary ones.
    rows, step, warps, stages = (64, 32, 4, 2) if x.dtype == jnp.float32 else (128, 64, 8, 3)
    columns = block_of(width, rows)
    forward = Tile(rows, columns, block_of(features, step, setup.block), step, warps, stages)
    backward = Tile(rows, columns, block_of(features, rows, setup.block), step, warps, stages)
    return Sizes(clips, windows, features, width, x.dtype, forward, backward)


def forward_launch(s: Sizes, differentiated: bool = False) -> Launch:
    """Grid: cells, columns; cells first, so that programs which run together share the weights. The second output is
    what SiLU takes."""
    grid = (steps(s.cells, s.forward.rows), steps(s.width, s.forward.columns))
    ins = (
        Part((s.tokens, s.features), s.dtype, (0,), _taken(s) * s.features),
        Part(s.weights, s.dtype, (1,)),
        Part((s.width,), jnp.float32, (1,)),
        Part((s.clips,), jnp.int32, (0,)),
    )
    outs = (Part((s.cells, s.width), s.dtype, (0, 1)),) * (2 if differentiated else 1)
    return Launch("stc_downsample_gpu", grid, ins, outs, s.forward.warps, s.forward.stages)


def features_launch(s: Sizes) -> Launch:
    """Grid: tokens of a tap, features, taps."""
    grid = (steps(s.each, s.backward.rows), steps(s.features, s.backward.features), PLACES)
    ins = (
        Part((s.cells, s.width), s.dtype, (0, 2), _taken(s) * s.width),
        Part(s.weights, s.dtype, (1, 2)),
        Part((s.clips,), jnp.int32, (0,)),
    )
    out = Part((s.tokens, s.features), s.dtype, (0, 1, 2))
    return Launch("stc_downsample_gpu_dx", grid, ins, (out,), s.backward.warps, s.backward.stages)


def weights_launch(s: Sizes) -> Launch:
    """Grid: columns, features, taps."""
    grid = (steps(s.width, s.backward.columns), steps(s.features, s.backward.features), PLACES)
    ins = (
        Part((s.tokens, s.features), s.dtype, (1, 2), _taken(s) * s.features),
        Part((s.cells, s.width), s.dtype, (0, 2), _taken(s) * s.width),
        Part((s.clips,), jnp.int32, ()),
    )
    out = Part(s.weights, s.dtype, (0, 1, 2))
    return Launch("stc_downsample_gpu_dw", grid, ins, (out,), s.backward.warps, s.backward.stages)


def stc_downsample(x: jax.Array, weight: jax.Array, bias: jax.Array, length: jax.Array, setup: Setup) -> jax.Array:
    """See `vidlmm.kernels.stc_downsample`."""
    s = sizes_of(x, weight, setup)
    flat, layer, length = x.reshape(s.tokens, s.features), weight.reshape(s.weights), jnp.minimum(length, x.shape[1])
    out: Any = _stc_downsample(flat, layer, bias.astype(jnp.float32), length, s, setup.interpret)
    return out.reshape(s.clips, s.windows.steps, s.windows.cells, s.width)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _stc_downsample(x: Any, weight: Any, bias: Any, length: Any, s: Sizes, interpret: bool) -> Any:
    return forward_launch(s)(partial(_forward_body, s=s), x, weight, bias, length, interpret=interpret)


def _forward(x: Any, weight: Any, bias: Any, length: Any, s: Sizes, interpret: bool) -> tuple[Any, tuple]:
    launch = forward_launch(s, differentiated=True)
    out, z = launch(partial(_forward_body, s=s), x, weight, bias, length, interpret=interpret)
    return out, (x, weight, length, z)


def _backward(s: Sizes, interpret: bool, saved: tuple, pull: Any) -> tuple[Any, Any, Any, None]:
    x, weight, length, z = saved
    wide = jax.vjp(jax.nn.silu, z.astype(jnp.float32))[1](pull.astype(jnp.float32))[0]
    d_z = wide.astype(s.dtype)
    d_x = features_launch(s)(partial(_features_body, s=s), d_z, weight, length, interpret=interpret)
    d_weight = weights_launch(s)(partial(_weights_body, s=s), x, d_z, length, interpret=interpret)
    return d_x, d_weight, jnp.sum(wide, axis=0), None


_stc_downsample.defvjp(_forward, _backward)


def _forward_body(x: Any, w: Any, b: Any, length: Any, *outs: Any, s: Sizes) -> None:
    tile, v = s.forward, s.windows
    cell = pl.program_id(0) * tile.rows + jnp.arange(tile.rows)
    column, inside = _part(pl.program_id(1), s.width, tile.columns)
    clip, (t, i, j) = _split(cell, v.steps, v.line)
    frames = length[jnp.minimum(clip, s.clips - 1)]
    across = steps(s.features, tile.features)

    def tap(number: Any, total: Any) -> Any:
        places = [STEP * at + move - v.padding for at, move in zip((t, i, j), _moves(number), strict=True)]
        there = (cell < s.cells) & _on_grid(places, frames, v)
        token = _joined(clip, places, v.frames, v.side)

        def some(k: Any, total: Any) -> Any:
            feature, own = _part(k, s.features, tile.features)
            seen = read(x.at[token[:, None], feature[None, :]], there[:, None], _row(own))
            return total + dot(seen, read(w.at[number, feature[:, None], column[None, :]], _column(own), _row(inside)))

        return jax.lax.fori_loop(0, jnp.max(there.astype(jnp.int32)) * across, some, total)

    total = jax.lax.fori_loop(0, PLACES, tap, jnp.zeros((tile.rows, tile.columns), jnp.float32))
    z = total + read(b.at[column], inside)[None, :]
    written = _column(mask_of(cell, s.cells, tile.rows)), _row(inside)
    for out, found in zip(outs, (z / (1 + jnp.exp(-z)), z), strict=False):
        write(out.at[cell[:, None], column[None, :]], found, *written)


def _features_body(d_z: Any, w: Any, length: Any, d_x: Any, *, s: Sizes) -> None:
    tile, number = s.backward, pl.program_id(2)
    token, cell, there, written = _tokens(pl.program_id(0) * tile.rows + jnp.arange(tile.rows), number, length, s)
    feature, own = _part(pl.program_id(1), s.features, tile.features)

    def some(k: Any, total: Any) -> Any:
        column, inside = _part(k, s.width, tile.step)
        pulled = read(d_z.at[cell[:, None], column[None, :]], there[:, None], _row(inside))
        return total + dot(
            pulled, read(w.at[number, feature[:, None], column[None, :]], _column(own), _row(inside)), (1, 1)
        )

    times = jnp.max(there.astype(jnp.int32)) * steps(s.width, tile.step)
    total = jax.lax.fori_loop(0, times, some, jnp.zeros((tile.rows, tile.features), jnp.float32))
    write(d_x.at[token[:, None], feature[None, :]], total, written[:, None], _row(own))


def _weights_body(x: Any, d_z: Any, length: Any, d_w: Any, *, s: Sizes) -> None:
    tile, number = s.backward, pl.program_id(2)
    column, inside = _part(pl.program_id(0), s.width, tile.columns)
    feature, own = _part(pl.program_id(1), s.features, tile.features)

    def some(k: Any, total: Any) -> Any:
        token, cell, there, _ = _tokens(k * tile.step + jnp.arange(tile.step), number, length, s)
        seen = read(x.at[token[:, None], feature[None, :]], there[:, None], _row(own))
        return total + dot(seen, read(d_z.at[cell[:, None], column[None, :]], there[:, None], _row(inside)), (0, 0))

    start = jnp.zeros((tile.features, tile.columns), jnp.float32)
    total = jax.lax.fori_loop(0, steps(s.each, tile.step), some, start)
    write(d_w.at[number, feature[:, None], column[None, :]], total, _column(own), _row(inside))


def _tokens(at: Any, number: Any, length: Any, s: Sizes) -> tuple[Any, Any, Any, Any]:
    """The tokens of a tap by number: (token, its cell, whether it stands in a window, whether it is there at all)."""
    v, (frames, side) = s.windows, s.half
    clip, counts = _split(at, frames, side)
    places = [STEP * count + v.first_of(move) for count, move in zip(counts, _moves(number), strict=True)]
    t, i, j = ((place + v.padding) >> 1 for place in places)
    there = at < s.each
    held = length[jnp.minimum(clip, s.clips - 1)]
    known = there & _on_grid(places, held, v) & (t < v.steps) & (i < v.line) & (j < v.line)
    written = there & _on_grid(places, v.frames, v)
    return _joined(clip, places, v.frames, v.side), _joined(clip, (t, i, j), v.steps, v.line), known, written


def _moves(number: Any) -> tuple[Any, Any, Any]:
    """A tap's place in its window."""
    return number >> 2, (number >> 1) & 1, number & 1


def _split(at: Any, steps: int, line: int) -> tuple[Any, tuple[Any, Any, Any]]:
    """Clip, step, row and column of the number of a place in clips of `steps` pictures of line x line."""
    picture, own = jax.lax.div(at, line * line), jax.lax.rem(at, line * line)
    row, column = jax.lax.div(own, line), jax.lax.rem(own, line)
    return jax.lax.div(picture, steps), (jax.lax.rem(picture, steps), row, column)


def _joined(clip: Any, place: Any, steps: int, line: int) -> Any:
    t, i, j = place
    return ((clip * steps + t) * line + i) * line + j


def _on_grid(place: Any, frames: Any, v: Windows) -> Any:
    t, i, j = place
    return (t >= 0) & (t < frames) & (i >= 0) & (i < v.side) & (j >= 0) & (j < v.side)


def _part(number: Any, width: int, block: int) -> tuple[Any, Any]:
    """The places of a part of a width, and which there are."""
    at = number * block + jnp.arange(block)
    return at, mask_of(at, width, block)


def _column(mask: Any) -> Any:
    return None if mask is None else mask[:, None]


def _row(mask: Any) -> Any:
    return None if mask is None else mask[None, :]


def _taken(s: Sizes) -> int:
    """Tokens of all clips that stand in a window."""
    v = s.windows
    return s.clips * v.taken * min(v.side, STEP * v.line - v.padding) ** 2
