"""Pallas for TPU: a picture stays on the chip while its channels are convolved, normalised and activated.

128 channels at a time: the picture with zeros around is shifted nine times, and the sums wait in float32 for the
mean and the variance of all channels. Backward makes the sums again from the picture, so that nothing is kept between
the passes; the gradients of the parameters leave as one set a picture, and plain JAX adds them up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from vidlmm.kernels.blocks import LANES, columns, whole_width
from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.launch import Block, Launch

# Bytes that a launch plans to hold, below what the compiler grants (`VMEM_LIMIT`).
HELD = 50 * 2**20
MOST_WIDTH = 512
# Rows of a tile on the chip.
TILE = 8
SIDE = 3
MOVES = (-1, 0, 1)
# Rows of the parameters behind those of the convolution.
SCALE, BIAS, ROWS = slice(9, 10), slice(10, 11), 11


@dataclass(frozen=True)
class Setup:
    """What is static of a call. line: pixels of a row of the picture."""

    line: int
    eps: float
    interpret: bool = False


@dataclass(frozen=True)
class Sizes:
    """frames, pixels, width: F, N, D; line: pixels of a row; block: channels at a time."""

    frames: int
    pixels: int
    width: int
    dtype: Any
    line: int
    block: int

    @property
    def margin(self) -> int:
        """Zeros before the first pixel and behind the last: a row and one more, in whole tiles."""
        return -(-(self.line + 1) // TILE) * TILE


def sizes_of(x: Any, setup: Setup) -> Sizes:
    """Raises KernelError for what does not fit on the chip."""
    if x.dtype not in (jnp.bfloat16, jnp.float32):
        raise KernelError(f"got pictures {x.dtype}: bfloat16 or float32")
    whole_width(x.shape[2], MOST_WIDTH, "pictures")
    frames, pixels, width = x.shape
    sizes = Sizes(frames, pixels, width, x.dtype, setup.line, columns(width, LANES))
    for make in (forward_launch, backward_launch):
        make(sizes)
    return sizes


def forward_launch(s: Sizes) -> Launch:
    """Grid: pictures."""
    return _fitted(s, lambda once: _launch("depthwise_norm_tpu", s, 1, (_picture(s, once),), once))


def backward_launch(s: Sizes) -> Launch:
    """Grid as forward. The second output holds the gradients of the parameters, in their order."""
    small = Block((s.frames, ROWS, s.width), jnp.float32, (1, ROWS, s.width), lambda f: (f, 0, 0))
    return _fitted(s, lambda once: _launch("depthwise_norm_tpu_dx", s, 2, (_picture(s, once), small), once))


def depthwise_norm(x: jax.Array, weight: jax.Array, scale: jax.Array, bias: jax.Array, setup: Setup) -> jax.Array:
    """See `vidlmm.kernels.depthwise_norm`."""
    sizes_of(x, setup)
    taps = weight.reshape(SIDE * SIDE, -1).astype(jnp.float32)
    return _depthwise_norm(x, jnp.concatenate([taps, jnp.stack([scale, bias]).astype(jnp.float32)]), setup)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise_norm(x: Any, parameters: Any, setup: Setup) -> Any:
    """parameters: [11, D], the convolution's nine, then scale and bias."""
    return _forward(x, parameters, setup)[0]


def _forward(x: Any, parameters: Any, setup: Setup) -> tuple[Any, tuple]:
    s = sizes_of(x, setup)
    body = partial(_forward_step, s=s, eps=setup.eps)
    return forward_launch(s)(body, x, parameters, _edges(s), interpret=setup.interpret), (x, parameters)


def _backward(setup: Setup, saved: tuple, pull: Any) -> tuple[Any, Any]:
    x, parameters = saved
    s = sizes_of(x, setup)
    body = partial(_backward_step, s=s, eps=setup.eps)
    d_x, small = backward_launch(s)(body, x, pull, parameters, _edges(s), interpret=setup.interpret)
    return d_x, jnp.sum(small, axis=0)


_depthwise_norm.defvjp(_forward, _backward)


def _forward_step(
    x: Any, p: Any, edges: Any, out: Any, y: Any, framed: Any, sums: Any, *, s: Sizes, eps: float
) -> None:
    mean, rate = _convolved(x, p, edges, y, framed, sums, s, eps)

    def activated(at: Any) -> None:
        u = (y[:, at] - mean) * rate * p[SCALE, at] + p[BIAS, at]
        out[0, :, at] = jax.nn.silu(u).astype(out.dtype)

    _each(s, activated)


def _backward_step(
    x: Any, pull: Any, p: Any, edges: Any, d_x: Any, small: Any, y: Any, framed: Any, sums: Any, *, s: Sizes, eps: float
) -> None:
    mean, rate = _convolved(x, p, edges, y, framed, sums, s, eps)
    sums[...] = jnp.zeros_like(sums)

    def pulled(at: Any) -> tuple[Any, Any]:
        """The normalised sums, and what the pull does to them behind scale and bias."""
        n = (y[:, at] - mean) * rate
        u = n * p[SCALE, at] + p[BIAS, at]
        share = jax.nn.sigmoid(u)
        return n, pull[0, :, at].astype(jnp.float32) * share * (1 + u * (1 - share))

    def norms(at: Any) -> None:
        n, g = pulled(at)
        small[0, SCALE, at] = jnp.sum(g * n, axis=0, keepdims=True)
        small[0, BIAS, at] = jnp.sum(g, axis=0, keepdims=True)
        g = g * p[SCALE, at]
        sums[0] += g
        sums[1] += g * n

    def picture(at: Any) -> None:
        n, g = pulled(at)
        framed[s.margin : s.margin + s.pixels, :] = rate * (g * p[SCALE, at] - first - n * second)
        seen, total = x[0, :, at].astype(jnp.float32), jnp.zeros((s.pixels, s.block), jnp.float32)
        for j in MOVES:
            line, shown = jnp.zeros_like(total), seen * _edge(edges, -j)
            for i in MOVES:
                d_y, tap = _shifted(framed, s, -i, -j), _tap(i, j)
                small[0, tap, at] = jnp.sum(shown * d_y, axis=0, keepdims=True)
                line += d_y * p[tap, at]
            total += line * _edge(edges, -j)
        d_x[0, :, at] = total.astype(d_x.dtype)

    _each(s, norms)
    first, second = (jnp.sum(sums[k], axis=1, keepdims=True) / s.width for k in range(2))
    _each(s, picture)


def _convolved(x: Any, p: Any, edges: Any, y: Any, framed: Any, sums: Any, s: Sizes, eps: float) -> tuple[Any, Any]:
    """Fills y with the convolution; the mean of its channels and 1 / their deviation, [N, 1]."""
    framed[...] = jnp.zeros_like(framed)
    sums[...] = jnp.zeros_like(sums)

    def convolve(at: Any) -> None:
        framed[s.margin : s.margin + s.pixels, :] = x[0, :, at].astype(jnp.float32)
        total = jnp.zeros((s.pixels, s.block), jnp.float32)
        for j in MOVES:
            line = jnp.zeros_like(total)
            for i in MOVES:
                line += _shifted(framed, s, i, j) * p[_tap(i, j), at]
            total += line * _edge(edges, j)
        y[:, at] = total
        sums[0] += total

    def spread(at: Any) -> None:
        away = y[:, at] - mean
        sums[1] += away * away

    _each(s, convolve)
    mean = jnp.sum(sums[0], axis=1, keepdims=True) / s.width
    _each(s, spread)
    return mean, jax.lax.rsqrt(jnp.sum(sums[1], axis=1, keepdims=True) / s.width + eps)


def _tap(i: int, j: int) -> slice:
    """The row of the parameters that weighs the neighbour i rows down and j columns to the right."""
    number = (i + 1) * SIDE + j + 1
    return slice(number, number + 1)


def _shifted(framed: Any, s: Sizes, i: int, j: int) -> Any:
    """Of each pixel its neighbour; above and below zeros, but beyond the ends of a row that of the next row."""
    first = s.margin + i * s.line + j
    return framed[first : first + s.pixels, :]


def _edges(s: Sizes) -> Any:
    """[N, 2]: zero where a pixel has no neighbour to the left, and where none to the right."""
    column = np.arange(s.pixels) % s.line
    return jnp.asarray(np.stack([column > 0, column < s.line - 1], axis=1), jnp.float32)


def _edge(edges: Any, j: int) -> Any:
    return 1 if j == 0 else edges[:, 0:1] if j < 0 else edges[:, 1:2]


def _each(s: Sizes, step: Callable[[Any], None]) -> None:
    """`step` with the place of every block of channels."""
    if s.block == s.width:
        return step(slice(None))

    def body(number: Any, _: Any) -> Any:
        step(pl.ds(pl.multiple_of(number * s.block, s.block), s.block))
        return _

    return jax.lax.fori_loop(0, s.width // s.block, body, None)


def _launch(name: str, s: Sizes, pictures: int, outs: tuple[Block, ...], once: bool) -> Launch:
    parameters = Block((ROWS, s.width), jnp.float32, (ROWS, s.width), lambda f: (0, 0), True)
    edges = Block((s.pixels, 2), jnp.float32, (s.pixels, 2), lambda f: (0, 0), True)
    scratch = (
        ((s.pixels, s.width), jnp.float32),
        ((s.margin + s.pixels + s.margin, s.block), jnp.float32),
        ((2, s.pixels, s.block), jnp.float32),
    )
    ins = (*[_picture(s, once)] * pictures, parameters, edges)
    return Launch(name, (s.frames,), ins, outs, scratch, (True,), usual=())


def _picture(s: Sizes, once: bool) -> Block:
    one = (s.pixels, s.width)
    return Block((s.frames, *one), s.dtype, (1, *one), lambda f: (f, 0, 0), once)


def _fitted(s: Sizes, launch: Callable[[bool], Launch]) -> Launch:
    """With a second buffer for the pictures where there is room."""
    for once in (False, True):
        if launch(once).held <= HELD:
            return launch(once)
    raise KernelError(
        f"pictures of {s.pixels} pixels with {s.width} channels in {jnp.dtype(s.dtype).name} do not fit on the chip: "
        "the TPU kernel takes 576 with 8192 channels in bfloat16"
    )


def traffic(s: Sizes) -> dict[str, int]:
    """Bytes that each kernel moves."""
    return {launch.name: launch.moved() for launch in (forward_launch(s), backward_launch(s))}
