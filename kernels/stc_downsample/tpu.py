"""Pallas for TPU: a frame's windows are gathered on the chip and multiplied at once; sums of whole clips stay there.

Forward: for a block of features, frame after frame goes through the weights of its own tap in time, which are read
once for as many clips as the chip holds sums of. Frames behind a clip's end and those that the padding adds are
neither fetched nor multiplied. Gathered rows live for one step.
Backward: the pull before SiLU is plain JAX; a kernel for the features spreads its products over the tokens of a frame,
a kernel for the weights keeps their block over all frames. Whichever gradient nobody asks for is never computed.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from vidlmm.kernels.products import dot
from vidlmm.kernels.stc_downsample.launches import (
    Setup,
    features_launch,
    forward_launch,
    in_turn,
    sizes_of,
    weights_launch,
)
from vidlmm.kernels.stc_downsample.windows import STEP, TAPS, Windows


def stc_downsample(x: jax.Array, weight: jax.Array, bias: jax.Array, length: jax.Array, setup: Setup) -> jax.Array:
    """See `vidlmm.kernels.stc_downsample`."""
    sizes_of(x, weight, setup)
    return _stc_downsample(x, weight, bias.astype(jnp.float32), length, setup)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _stc_downsample(x: Any, weight: Any, bias: Any, length: Any, setup: Setup) -> Any:
    sizes = sizes_of(x, weight, setup)
    body = partial(_forward_step, windows=sizes.windows)
    return forward_launch(sizes)(body, length, x, weight, bias[None], interpret=setup.interpret)


def _forward(x: Any, weight: Any, bias: Any, length: Any, setup: Setup) -> tuple[Any, tuple]:
    sizes = sizes_of(x, weight, setup)
    body = partial(_forward_step, windows=sizes.windows)
    launch = forward_launch(sizes, differentiated=True)
    out, z = launch(body, length, x, weight, bias[None], interpret=setup.interpret)
    return out, (x, weight, length, z)


def _backward(setup: Setup, saved: tuple, pull: Any) -> tuple[Any, Any, Any, None]:
    x, weight, length, z = saved
    sizes = sizes_of(x, weight, setup)
    wide = jax.vjp(jax.nn.silu, z.astype(jnp.float32))[1](pull.astype(jnp.float32))[0]
    d_z = wide.astype(x.dtype)
    options = {"windows": sizes.windows}
    interpret = setup.interpret
    d_x = features_launch(sizes)(partial(_features_step, **options), length, d_z, weight, interpret=interpret)
    d_weight = weights_launch(sizes)(partial(_weights_step, **options), length, x, d_z, interpret=interpret)
    return d_x, d_weight, jnp.sum(wide, axis=(0, 1, 2)), None


_stc_downsample.defvjp(_forward, _backward)


def _forward_step(length: Any, x: Any, w: Any, b: Any, *refs: Any, windows: Windows) -> None:
    *outs, total, wide, taken = refs
    block, clip, frame = (pl.program_id(axis) for axis in (2, 3, 4))
    together = pl.num_programs(3)

    @pl.when((block == 0) & (clip == 0) & (frame == 0))
    def _() -> None:
        total[...] = jnp.zeros_like(total)
        taken[...] = jnp.zeros_like(taken)

    step, tap = windows.step_and_tap(frame)
    own = clip * windows.steps + step

    @pl.when(frame < length[pl.program_id(0) * together + clip])
    def _() -> None:
        total[own] += dot(_gathered(x[0, 0], wide, taken, windows).astype(w.dtype), _rows(w, tap))

    @pl.when((block == pl.num_programs(2) - 1) & ((tap == STEP - 1) | (frame == windows.taken - 1)))
    def _() -> None:
        z = total[own] + b[...]
        for out, found in zip(outs, (jax.nn.silu(z), z), strict=False):
            out[0, 0] = found.astype(out.dtype)


def _features_step(length: Any, d_z: Any, w: Any, d_x: Any, wide: Any, pulled: Any, *, windows: Windows) -> None:
    clip, frame = pl.program_id(3), in_turn(pl.program_id(2), windows.frames)

    @pl.when((pl.program_id(2) == 0) & (clip == 0))
    def _() -> None:
        # Tokens that stand in no window stay at zero.
        wide[...] = jnp.zeros_like(wide)

    there = frame < jnp.minimum(length[pl.program_id(0) * pl.num_programs(3) + clip], windows.taken)

    @pl.when(there)
    def _() -> None:
        pulled[...] = dot(d_z[clip, windows.step_and_tap(frame)[0]], _rows(w, 0), (1, 1))
        width = wide.shape[1]
        for tap, cell, count, token in windows.runs():
            found = pulled[pl.ds(cell, count), pl.ds(tap * width, width)]
            wide[pl.ds(token, count, stride=STEP), :] = found
        d_x[0, 0] = wide[...].astype(d_x.dtype)

    @pl.when(jnp.logical_not(there))
    def _() -> None:
        d_x[0, 0] = jnp.zeros(d_x.shape[2:], d_x.dtype)


def _weights_step(
    length: Any, x: Any, d_z: Any, d_w: Any, total: Any, wide: Any, taken: Any, *, windows: Windows
) -> None:
    clip, number = pl.program_id(3), pl.program_id(4)
    frame = windows.first_of(pl.program_id(2)) + STEP * number

    @pl.when((clip == 0) & (number == 0))
    def _() -> None:
        total[...] = jnp.zeros_like(total)
        taken[...] = jnp.zeros_like(taken)

    @pl.when(frame < jnp.minimum(length[clip], windows.taken))
    def _() -> None:
        rows = _gathered(x[0, 0], wide, taken, windows).astype(d_z.dtype)
        total[...] += dot(rows, d_z[clip, windows.step_and_tap(frame)[0]], (0, 0))

    @pl.when((clip == pl.num_programs(3) - 1) & (number == pl.num_programs(4) - 1))
    def _() -> None:
        d_w[...] = total[...].reshape(d_w.shape).astype(d_w.dtype)


def _gathered(x: Any, wide: Any, taken: Any, windows: Windows) -> Any:
    """[P, taps * d]: the tokens of every cell of a frame side by side. Reads of every second token take whole words,
    so that the frame is laid out in float32 first; cells without a token stay at zero."""
    wide[...] = x.astype(jnp.float32)
    width = wide.shape[1]
    for tap, cell, count, token in windows.runs():
        taken[pl.ds(cell, count), pl.ds(tap * width, width)] = wide[pl.ds(token, count, stride=STEP), :]
    return taken[...]


def _rows(w: Any, tap: Any) -> Any:
    """[taps * d, W]: the weights of a frame's place in its window, in the order of gathered tokens."""
    return w[tap].reshape(TAPS * w.shape[3], w.shape[4])
