"""Pallas for GPUs: each program keeps its columns of a clip's sum in registers while it goes through the frames.

A frame's score needs all of its numbers, more than one processor holds, so v2 reads the features twice: once for the
scores' parts, which are summed and turned into shares outside, and once for the sum. v1 has its shares from the
lengths and reads once. Backward likewise: one read for the pull of each share, one for the layer's gradient; the
features' gradient needs none. Frames behind a clip's end are never read.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.launch_gpu import Launch, Part, block_of, mask_of, read, steps, write

BLOCK = 1024


@dataclass(frozen=True)
class Sizes:
    """numbers: of a frame without its class token, which takes the first `lead`; block: of them in a program."""

    clips: int
    frames: int
    numbers: int
    lead: int
    dtype: Any
    block: int


def sizes_of(x: Any, block: int | None = None) -> Sizes:
    """Raises KernelError for another type of numbers."""
    if x.dtype not in (jnp.bfloat16, jnp.float32):
        raise KernelError(f"got features {x.dtype}: bfloat16 or float32")
    clips, frames, rows, width = x.shape
    numbers = (rows - 1) * width
    return Sizes(clips, frames, numbers, width, x.dtype, block_of(numbers, BLOCK, block))


def products_launch(s: Sizes, shared: bool) -> Launch:
    """Grid: blocks, clips. shared: all clips are multiplied with the same numbers."""
    grid = (steps(s.numbers, s.block), s.clips)
    other = Part((1, s.numbers), s.dtype, (0,)) if shared else Part((s.clips, s.numbers), s.dtype, (0, 1))
    out = Part((s.clips, s.frames, grid[0]), jnp.float32, (0, 1))
    return Launch("temporal_pool_gpu_products", grid, (_seen(s, (0, 1)), other, _lengths(s, (1,))), (out,))


def sums_launch(s: Sizes, together: bool) -> Launch:
    """Grid: blocks, clips. together: one float32 sum over all clips, by programs that go through them."""
    grid = (steps(s.numbers, s.block), 1 if together else s.clips)
    along = (0,) if together else (0, 1)
    ins = (_seen(s, along), _shares(s, along[1:]), _lengths(s, along[1:]))
    out = Part((grid[1], s.numbers), jnp.float32 if together else s.dtype, along)
    return Launch(f"temporal_pool_gpu{'_dw' if together else ''}", grid, ins, (out,))


def spread_launch(s: Sizes, scored: bool) -> Launch:
    """Grid: blocks of whole frames, clips."""
    whole = s.lead + s.numbers
    layer = (_shares(s, (1,)), Part((s.numbers,), s.dtype, (0,))) if scored else ()
    ins = (Part((s.clips, s.numbers), s.dtype, (0, 1)), _shares(s, (1,)), *layer)
    out = Part((s.clips, s.frames, whole), s.dtype, (0, 1))
    return Launch("temporal_pool_gpu_dx", (steps(whole, s.block), s.clips), ins, (out,))


def temporal_pool(
    x: jax.Array,
    length: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    interpret: bool,
    block: int | None = None,
) -> jax.Array:
    """See `vidlmm.kernels.temporal_pool`. block: numbers of a frame in a program."""
    sizes = sizes_of(x, block)
    flat, length = x.reshape(*x.shape[:2], -1), length.astype(jnp.int32)
    if weight is None or bias is None:
        out: Any = _mean(flat, length, sizes, interpret)
    else:
        layer = weight.astype(x.dtype).reshape(-1)
        out = _scored(flat, length, layer, bias.astype(jnp.float32), sizes, interpret)
    return out.reshape(x.shape[0], x.shape[2] - 1, x.shape[3])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _mean(x: Any, length: Any, s: Sizes, interpret: bool) -> Any:
    return _mean_forward(x, length, s, interpret)[0]


def _mean_forward(x: Any, length: Any, s: Sizes, interpret: bool) -> tuple[Any, Any]:
    share = _there(length, s) / jnp.maximum(length, 1)[:, None].astype(jnp.float32)
    return _sums(x, share, length, s, interpret), share


def _mean_backward(s: Sizes, interpret: bool, share: Any, pull: Any) -> tuple[Any, None]:
    return spread_launch(s, False)(partial(_spread_body, s=s), pull, share, interpret=interpret), None


_mean.defvjp(_mean_forward, _mean_backward)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _scored(x: Any, length: Any, layer: Any, bias: Any, s: Sizes, interpret: bool) -> Any:
    return _scored_forward(x, length, layer, bias, s, interpret)[0]


def _scored_forward(x: Any, length: Any, layer: Any, bias: Any, s: Sizes, interpret: bool) -> tuple[Any, tuple]:
    scores = _products(x, layer[None], length, s, interpret) + bias
    there = _there(length, s)
    # A clip without frames has no shares: its rows are zero.
    share = jnp.where(there, jax.nn.softmax(jnp.where(there, scores, -1e30), axis=1), 0)
    return _sums(x, share, length, s, interpret), (x, length, layer, share)


def _scored_backward(s: Sizes, interpret: bool, saved: tuple, pull: Any) -> tuple[Any, None, Any, Any]:
    x, length, layer, share = saved
    d_share = _products(x, pull, length, s, interpret)
    d_score = share * (d_share - jnp.sum(share * d_share, axis=1, keepdims=True))
    d_x = spread_launch(s, True)(partial(_spread_body, s=s), pull, share, d_score, layer, interpret=interpret)
    d_layer = _sums(x, d_score, length, s, interpret, together=True)[0]
    return d_x, None, d_layer.astype(layer.dtype), jnp.sum(d_score)[None]


_scored.defvjp(_scored_forward, _scored_backward)


def _products(x: Any, other: Any, length: Any, s: Sizes, interpret: bool) -> Any:
    """[C, T]: each frame times `other` [C or 1, numbers], summed."""
    launch = products_launch(s, other.shape[0] == 1)
    return jnp.sum(launch(partial(_products_body, s=s), x, other, length, interpret=interpret), axis=2)


def _sums(x: Any, share: Any, length: Any, s: Sizes, interpret: bool, together: bool = False) -> Any:
    """Frames by their shares, for each clip or all together."""
    return sums_launch(s, together)(partial(_sums_body, s=s), x, share, length, interpret=interpret)


def _products_body(x: Any, other: Any, length: Any, out: Any, *, s: Sizes) -> None:
    block, clip = pl.program_id(0), pl.program_id(1)
    at = block * s.block + jnp.arange(s.block)
    inside = mask_of(at, s.numbers, s.block)
    factor = read(other.at[clip if other.shape[0] > 1 else 0, at], inside).astype(jnp.float32)
    own = length[clip]

    def one(t: Any, _: None) -> None:
        # Frames behind the end give zero.
        seen = read(x.at[clip, t, s.lead + at], inside, jnp.full(s.block, t < own))
        out[clip, t, block] = jnp.sum(seen.astype(jnp.float32) * factor)

    jax.lax.fori_loop(0, s.frames, one, None)


def _sums_body(x: Any, share: Any, length: Any, out: Any, *, s: Sizes) -> None:
    block, group = pl.program_id(0), pl.program_id(1)
    at = block * s.block + jnp.arange(s.block)
    inside = mask_of(at, s.numbers, s.block)

    def clip(c: Any, total: Any) -> Any:
        def frame(t: Any, total: Any) -> Any:
            return total + share[c, t] * read(x.at[c, t, s.lead + at], inside).astype(jnp.float32)

        return jax.lax.fori_loop(0, length[c], frame, total)

    each = s.clips // out.shape[0]
    total = jax.lax.fori_loop(group * each, (group + 1) * each, clip, jnp.zeros(s.block, jnp.float32))
    write(out.at[group, at], total, inside)


def _spread_body(pull: Any, share: Any, *refs: Any, s: Sizes) -> None:
    *scored, out = refs
    block, clip = pl.program_id(0), pl.program_id(1)
    at = block * s.block + jnp.arange(s.block)
    inside = mask_of(at, s.lead + s.numbers, s.block)
    # The class token's numbers have no pull.
    own = at >= s.lead
    pulled = read(pull.at[clip, at - s.lead], own, inside).astype(jnp.float32)
    weights = read(scored[1].at[at - s.lead], own, inside).astype(jnp.float32) if scored else None

    def one(t: Any, _: None) -> None:
        d_x = share[clip, t] * pulled
        if weights is not None:
            d_x += scored[0][clip, t] * weights
        write(out.at[clip, t, at], d_x, inside)

    jax.lax.fori_loop(0, s.frames, one, None)


def _there(length: Any, s: Sizes) -> Any:
    return jnp.arange(s.frames) < length[:, None]


def _seen(s: Sizes, along: tuple[int, ...]) -> Part:
    """All frames; a clip that has fewer has fewer read."""
    shape = (s.clips, s.frames, s.lead + s.numbers)
    return Part(shape, s.dtype, along, s.clips * s.frames * s.numbers)


def _shares(s: Sizes, along: tuple[int, ...]) -> Part:
    return Part((s.clips, s.frames), jnp.float32, along)


def _lengths(s: Sizes, along: tuple[int, ...]) -> Part:
    return Part((s.clips,), jnp.int32, along)
