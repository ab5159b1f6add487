"""Pallas for GPUs: a program holds all channels of a few pixels, so that their sums are normalised where they are made.

Backward takes two kernels, for the pull on a pixel's sum needs all channels of the pixel, and the pull on a pixel the
sums of nine. The first makes the sums again and writes the pulls on them, one array of the picture's size in its type.
The second takes some channels of many pixels: from nine of those pulls it makes the pixel's gradient and adds up that
of the convolution. The parameters' gradients leave as float32 sums of each program, which plain JAX adds up in order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.launch_gpu import Launch, Part, block_of, mask_of, read, steps, write

MOST_WIDTH = 8192
# Numbers of a program's sums forward and backward: 32 and 16 registers of each thread.
FORWARD, BACKWARD, WARPS = 8192, 4096, 8
# Pixels whose parts of the parameters' gradients are one sum: of the norm's, of the convolution's.
NORM, TAPS = 16, 128
# Pixels and channels of a tile in the second kernel.
ROWS, COLUMNS = 4, 128
SIDE = 3
MOVES = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1))
# Rows of the parameters behind those of the convolution.
SCALE, BIAS = SIDE * SIDE, SIDE * SIDE + 1


@dataclass(frozen=True)
class Sizes:
    """pixels: of all pictures together; picture: of one; line: of one row; block: the channels and what stands over;
    eps: added to the variance."""

    pixels: int
    picture: int
    line: int
    width: int
    dtype: Any
    block: int
    eps: float

    def tile(self, numbers: int) -> int:
        """Pixels that a program holds at a time."""
        return min(max(numbers // self.block, 1), NORM)


def sizes_of(x: Any, line: int, eps: float) -> Sizes:
    """Raises KernelError for another type of numbers, or channels that a processor does not hold."""
    if x.dtype not in (jnp.bfloat16, jnp.float32):
        raise KernelError(f"got pictures {x.dtype}: bfloat16 or float32")
    frames, pixels, width = x.shape
    if width > MOST_WIDTH:
        raise KernelError(f"pictures of {width} channels: the GPU kernel takes at most {MOST_WIDTH}")
    return Sizes(frames * pixels, pixels, line, width, x.dtype, block_of(width, MOST_WIDTH), eps)


def forward_launch(s: Sizes) -> Launch:
    """Grid: pixels."""
    grid = (steps(s.pixels, s.tile(FORWARD)),)
    ins = (_pictures(s, (0,), len(MOVES)), _parameters(s, ()))
    return Launch("depthwise_norm_gpu", grid, ins, (_pictures(s, (0,)),), WARPS)


def norm_launch(s: Sizes) -> Launch:
    """Grid: pixels. Outputs: the pulls on the convolution's sums, and on scale and bias by each program."""
    grid = (steps(s.pixels, NORM),)
    ins = (_pictures(s, (0,), len(MOVES)), _pictures(s, (0,)), _parameters(s, (), NORM // s.tile(BACKWARD)))
    outs = (_pictures(s, (0,)), Part((grid[0], 2, s.width), jnp.float32, (0,)))
    return Launch("depthwise_norm_gpu_dy", grid, ins, outs, WARPS)


def picture_launch(s: Sizes) -> Launch:
    """Grid: channels, pixels. Outputs: the pictures' gradient, and the convolution's by each program."""
    block = block_of(s.width, COLUMNS)
    grid = (steps(s.width, block), steps(s.pixels, TAPS))
    ins = (_pictures(s, (0, 1)), _pictures(s, (0, 1), len(MOVES)), _parameters(s, (0,)))
    outs = (_pictures(s, (0, 1)), Part((grid[1], len(MOVES), s.width), jnp.float32, (0, 1)))
    return Launch("depthwise_norm_gpu_dx", grid, ins, outs)


def depthwise_norm(
    x: jax.Array, weight: jax.Array, scale: jax.Array, bias: jax.Array, line: int, eps: float, interpret: bool = False
) -> jax.Array:
    """See `vidlmm.kernels.depthwise_norm`."""
    s = sizes_of(x, line, eps)
    taps = weight.reshape(SIDE * SIDE, -1).astype(jnp.float32)
    parameters = jnp.concatenate([taps, jnp.stack([scale, bias]).astype(jnp.float32)])
    out: Any = _depthwise_norm(x.reshape(s.pixels, s.width), parameters, s, interpret)
    return out.reshape(x.shape)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise_norm(x: Any, parameters: Any, s: Sizes, interpret: bool) -> Any:
    """parameters: [11, D], the convolution's nine, then scale and bias."""
    return _forward(x, parameters, s, interpret)[0]


def _forward(x: Any, parameters: Any, s: Sizes, interpret: bool) -> tuple[Any, tuple]:
    return forward_launch(s)(partial(_forward_body, s=s), x, parameters, interpret=interpret), (x, parameters)


def _backward(s: Sizes, interpret: bool, saved: tuple, pull: Any) -> tuple[Any, Any]:
    x, parameters = saved
    d_y, d_norm = norm_launch(s)(partial(_norm_body, s=s), x, pull, parameters, interpret=interpret)
    d_x, d_taps = picture_launch(s)(partial(_picture_body, s=s), x, d_y, parameters, interpret=interpret)
    return d_x, jnp.concatenate([jnp.sum(d_taps, axis=0), jnp.sum(d_norm, axis=0)])


_depthwise_norm.defvjp(_forward, _backward)


def _forward_body(x: Any, p: Any, out: Any, *, s: Sizes) -> None:
    rows = s.tile(FORWARD)
    pixel = pl.program_id(0) * rows + jnp.arange(rows)
    channel, inside = _channels(s)
    n, _ = _normalised(x, p, pixel, channel, inside, s)
    u = n * _line(p, SCALE, channel, inside) + _line(p, BIAS, channel, inside)
    there = mask_of(pixel, s.pixels, rows)
    write(out.at[pixel[:, None], channel[None, :]], u * _sigmoid(u), _column(there), _row(inside))


def _norm_body(x: Any, pull: Any, p: Any, d_y: Any, d_norm: Any, *, s: Sizes) -> None:
    rows = s.tile(BACKWARD)
    channel, inside = _channels(s)
    scale, bias = (_line(p, number, channel, inside) for number in (SCALE, BIAS))
    program = pl.program_id(0)

    def tile(number: Any, sums: Any) -> Any:
        pixel = program * NORM + number * rows + jnp.arange(rows)
        there = _column(mask_of(pixel, s.pixels, NORM))
        at = (pixel[:, None], channel[None, :])
        n, rate = _normalised(x, p, pixel, channel, inside, s)
        u = n * scale + bias
        share = _sigmoid(u)
        # Pixels and channels that are none have no pull.
        g = read(pull.at[at], there, _row(inside)).astype(jnp.float32) * share * (1 + u * (1 - share))
        own = g * scale
        first, second = (jnp.sum(one, axis=1, keepdims=True) / s.width for one in (own, own * n))
        write(d_y.at[at], rate * (own - first - n * second), there, _row(inside))
        return sums[0] + jnp.sum(g * n, axis=0), sums[1] + jnp.sum(g, axis=0)

    start = (jnp.zeros(s.block, jnp.float32),) * 2
    for number, total in enumerate(jax.lax.fori_loop(0, NORM // rows, tile, start)):
        write(d_norm.at[program, number, channel], total, inside)


def _picture_body(x: Any, d_y: Any, p: Any, d_x: Any, d_taps: Any, *, s: Sizes) -> None:
    block = block_of(s.width, COLUMNS)
    channel = pl.program_id(0) * block + jnp.arange(block)
    inside = mask_of(channel, s.width, block)
    weights = [_line(p, tap, channel, inside) for tap in range(len(MOVES))]
    program = pl.program_id(1)

    def tile(number: Any, sums: Any) -> Any:
        pixel = program * TAPS + number * ROWS + jnp.arange(ROWS)
        there = _column(mask_of(pixel, s.pixels, TAPS))
        at = (pixel[:, None], channel[None, :])
        seen = read(x.at[at], there, _row(inside)).astype(jnp.float32)
        total, found = jnp.zeros((ROWS, block), jnp.float32), []
        # A pixel is the neighbour (i, j) of the one that lies the other way.
        for tap, d in zip(reversed(range(len(MOVES))), _neighbours(d_y, pixel, channel, inside, s), strict=True):
            total += d * weights[tap]
            found.append(sums[tap] + seen * d)
        write(d_x.at[at], total, there, _row(inside))
        return tuple(reversed(found))

    start = (jnp.zeros((ROWS, block), jnp.float32),) * len(MOVES)
    for tap, total in enumerate(jax.lax.fori_loop(0, TAPS // ROWS, tile, start)):
        write(d_taps.at[program, tap, channel], jnp.sum(total, axis=0), inside)


def _normalised(x: Any, p: Any, pixel: Any, channel: Any, inside: Any, s: Sizes) -> tuple[Any, Any]:
    """The convolution of these pixels with mean 0 and variance 1 over channels, and 1 / its deviation [pixels, 1]."""
    y = jnp.zeros((pixel.shape[0], s.block), jnp.float32)
    for tap, seen in enumerate(_neighbours(x, pixel, channel, inside, s)):
        y += seen * _line(p, tap, channel, inside)
    away = y - jnp.sum(y, axis=1, keepdims=True) / s.width
    away = away if inside is None else jnp.where(_row(inside), away, 0)
    rate = jax.lax.rsqrt(jnp.sum(away * away, axis=1, keepdims=True) / s.width + s.eps)
    return away * rate, rate


def _neighbours(ref: Any, pixel: Any, channel: Any, inside: Any, s: Sizes) -> Iterator[Any]:
    """Of each pixel the nine around it in float32, zeros outside its picture; in the order of the taps."""
    own = jax.lax.rem(pixel, s.picture)
    row, column = jax.lax.div(own, s.line), jax.lax.rem(own, s.line)
    for i, j in MOVES:
        there = (pixel < s.pixels) & (row + i >= 0) & (row + i < s.picture // s.line)
        there &= (column + j >= 0) & (column + j < s.line)
        at = (pixel + i * s.line + j)[:, None], channel[None, :]
        yield read(ref.at[at], there[:, None], _row(inside)).astype(jnp.float32)


def _line(p: Any, number: int, channel: Any, inside: Any) -> Any:
    """[1, channels] of the parameters."""
    return read(p.at[number, channel], inside)[None, :]


def _sigmoid(u: Any) -> Any:
    return 1 / (1 + jnp.exp(-u))


def _channels(s: Sizes) -> tuple[Any, Any]:
    channel = jnp.arange(s.block)
    return channel, mask_of(channel, s.width, s.block)


def _column(mask: Any) -> Any:
    return None if mask is None else mask[:, None]


def _row(mask: Any) -> Any:
    return None if mask is None else mask[None, :]


def _pictures(s: Sizes, along: tuple[int, ...], times: int = 1) -> Part:
    """The pictures, each pixel of them read so many times."""
    return Part((s.pixels, s.width), s.dtype, along, times * s.pixels * s.width)


def _parameters(s: Sizes, along: tuple[int, ...], times: int = 1) -> Part:
    shape = (SIDE * SIDE + 2, s.width)
    return Part(shape, jnp.float32, along, times * shape[0] * shape[1])
