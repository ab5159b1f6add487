"""How the kernels cut their work: grids, blocks, and what stays on the chip.

The weights are by far the largest array, the sums of a clip the next. Each launch takes that cut into groups of clips
and parts of the output which moves least of those that fit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from vidlmm.kernels.blocks import LANES, columns, whole_width
from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.grids import side_of
from vidlmm.kernels.launch import Block, Launch
from vidlmm.kernels.stc_downsample.windows import STEP, TAPS, Windows

# Bytes that a launch plans to hold, below what the compiler grants (`VMEM_LIMIT`): a step's values need room as well.
HELD = 46 * 2**20
MOST_WIDTH = 1024


@dataclass(frozen=True)
class Setup:
    """What is static of a call. block: features in a step, None by rule."""

    padding: int
    block: int | None = None
    interpret: bool = False


@dataclass(frozen=True)
class Sizes:
    """features, width: D, W; block: features of a step."""

    clips: int
    windows: Windows
    features: int
    width: int
    dtype: Any
    block: int

    @property
    def blocks(self) -> int:
        return self.features // self.block

    @property
    def parts(self) -> list[int]:
        """Columns of the output that may be made at a time: equal parts of whole lanes, or all."""
        lanes = self.width // LANES
        cut = [self.width // n for n in range(2, lanes + 1) if lanes % n == 0]
        return [self.width, *(cut if self.width % LANES == 0 else [])]

    @property
    def groups(self) -> list[int]:
        """Clips that may be taken together."""
        return [n for n in range(self.clips, 0, -1) if self.clips % n == 0]


def sizes_of(x: Any, weight: Any, setup: Setup) -> Sizes:
    """Raises KernelError for what does not fit on the chip."""
    clips, frames, tokens, features = x.shape
    if x.dtype not in (jnp.bfloat16, jnp.float32) or weight.dtype != x.dtype:
        raise KernelError(f"got features {x.dtype} and weights {weight.dtype}: both bfloat16 or both float32")
    if weight.shape[:3] != (STEP, STEP, STEP) or setup.padding not in (0, 1):
        raise KernelError(
            f"windows of {weight.shape[:3]} with padding {setup.padding}: the TPU kernel takes (2, 2, 2) and 0 or 1"
        )
    width = weight.shape[4]
    whole_width(features, MOST_WIDTH, "features")
    whole_width(width, MOST_WIDTH, "an output")
    windows = Windows(frames, side_of(tokens), setup.padding)
    sizes = Sizes(clips, windows, features, width, x.dtype, columns(features, LANES, setup.block))
    forward_launch(sizes, differentiated=True)
    features_launch(sizes)
    weights_launch(sizes)
    return sizes


def usual(s: Sizes) -> tuple[np.ndarray, ...]:
    """Clips of all frames, by which a call declares its traffic."""
    return (np.full(s.clips, s.windows.frames),)


def forward_launch(s: Sizes, differentiated: bool = False) -> Launch:
    """Grid: groups of clips, parts of the output, blocks of features, clips, frames. The second output is what SiLU
    takes, for the backward pass."""
    v = s.windows

    def launch(together: int, part: int) -> Launch:
        outer, last = (s.clips // together, s.width // part), s.blocks - 1

        def out_at(g: Any, n: Any, k: Any, c: Any, f: Any, length: Any) -> tuple[Any, ...]:
            # Before the last block of features nothing is finished, and the first block of the group waits.
            done = jnp.asarray(k == last, jnp.int32)
            return g * together + c * done, v.step_and_tap(f)[0] * done, 0, n

        def x_at(g: Any, n: Any, k: Any, c: Any, f: Any, length: Any) -> tuple[Any, ...]:
            clip = g * together + c
            return clip, _there(f, length[clip]), 0, k

        shown, made = (s.clips, v.frames, v.side**2, s.features), (s.clips, v.steps, v.cells, s.width)
        ins = (
            Block(shown, s.dtype, (1, 1, v.side**2, s.block), x_at),
            Block(_weights(s), s.dtype, (STEP,) * 3 + (s.block, part), lambda g, n, k, c, f, at: (0, 0, 0, k, n)),
            Block((1, s.width), jnp.float32, (1, part), lambda g, n, k, c, f, at: (0, n)),
        )
        out = Block(made, s.dtype, (1, 1, v.cells, part), out_at)
        scratch = (((together * v.steps, v.cells, part), jnp.float32), *_gathering(s))
        grid = (*outer, s.blocks, together, v.taken)
        free = (True, True, False, False, False)
        outs = (out,) * (2 if differentiated else 1)
        return Launch("stc_downsample_tpu", grid, ins, outs, scratch, free, 1, _flops(s), usual(s))

    seen, weights = s.clips * v.taken * v.side**2, 2 * TAPS * s.width
    return _cheapest(s, launch, lambda together, part: s.width // part * seen + s.clips // together * weights)


def features_launch(s: Sizes) -> Launch:
    """Grid: groups of clips, blocks of features, frames (`in_turn`), clips."""
    v = s.windows

    def launch(together: int, part: int) -> Launch:
        pull = (s.clips, v.steps, v.cells, s.width)

        def w_at(g: Any, k: Any, f: Any, c: Any, length: Any) -> tuple[Any, ...]:
            return v.step_and_tap(in_turn(f, v.frames))[1], 0, 0, k, 0

        def out_at(g: Any, k: Any, f: Any, c: Any, length: Any) -> tuple[Any, ...]:
            return g * together + c, in_turn(f, v.frames), 0, k

        ins = (
            Block(pull, s.dtype, (together, *pull[1:]), lambda g, k, f, c, at: (g, 0, 0, 0), True),
            Block(_weights(s), s.dtype, (1, STEP, STEP, s.block, s.width), w_at),
        )
        out = Block((s.clips, v.frames, v.side**2, s.features), s.dtype, (1, 1, v.side**2, s.block), out_at)
        scratch = (((v.side**2, s.block), jnp.float32), ((v.cells, TAPS * s.block), jnp.float32))
        grid = (s.clips // together, s.blocks, v.frames, together)
        free = (True, True, False, False)
        return Launch("stc_downsample_tpu_dx", grid, ins, (out,), scratch, free, 1, _flops(s), usual(s))

    return _cheapest(s, launch, lambda together, part: s.clips // together, parts=[s.width])


def weights_launch(s: Sizes) -> Launch:
    """Grid: parts of the output, blocks of features, taps in time, clips, frames of the tap. Sums are float32 and
    leave in the weights' type."""
    v = s.windows

    def launch(together: int, part: int) -> Launch:
        pull = (s.clips, v.steps, v.cells, s.width)

        def x_at(n: Any, k: Any, a: Any, c: Any, i: Any, length: Any) -> tuple[Any, ...]:
            # Behind a clip's end stays the last frame of this tap.
            first = v.first_of(a)
            last = jnp.maximum(length[c] - 1 - first, 0) >> 1
            return c, jnp.minimum(first + STEP * jnp.minimum(i, last), v.frames - 1), 0, k

        ins = (
            Block((s.clips, v.frames, v.side**2, s.features), s.dtype, (1, 1, v.side**2, s.block), x_at),
            Block(pull, s.dtype, (*pull[:3], part), lambda n, k, a, c, i, at: (0, 0, 0, n), True),
        )
        block = (1, STEP, STEP, s.block, part)
        out = Block(_weights(s), s.dtype, block, lambda n, k, a, c, i, at: (a, 0, 0, k, n))
        scratch = (((TAPS * s.block, part), jnp.float32), *_gathering(s))
        grid = (s.width // part, s.blocks, STEP, s.clips, -(-v.taken // STEP))
        free = (True, True, False, False, False)
        return Launch("stc_downsample_tpu_dw", grid, ins, (out,), scratch, free, 1, _flops(s), usual(s))

    return _cheapest(s, launch, lambda together, part: s.width // part, groups=[s.clips])


def in_turn(number: Any, frames: int) -> Any:
    """Frames in an order in which the weights of a tap in time are read once: the even ones, then the odd ones."""
    even = -(-frames // STEP)
    return jnp.where(number < even, STEP * number, STEP * (number - even) + 1)


def _cheapest(
    s: Sizes,
    launch: Callable[[int, int], Launch],
    cost: Callable[[int, int], int],
    groups: list[int] | None = None,
    parts: list[int] | None = None,
) -> Launch:
    """Of the cuts that fit, that which costs least; two steps of the grid are free, for chips with two cores."""
    cuts = [(together, part) for part in parts or s.parts for together in groups or s.groups]
    made = {cut: launch(*cut) for cut in cuts}
    fitting = [cut for cut in cuts if made[cut].held <= HELD]
    if not fitting:
        raise KernelError(
            f"{s.clips} clips of {s.windows.frames} frames with {s.windows.side} x {s.windows.side} tokens, widths "
            f"{s.features} and {s.width} in {jnp.dtype(s.dtype).name} fit in no part: call with fewer clips"
        )
    return made[min(fitting, key=lambda cut: (made[cut].grid[0] * made[cut].grid[1] < 2, cost(*cut)))]


def _there(frame: Any, length: Any) -> Any:
    """The frame that a step fetches: behind a clip's end the last, which is there already."""
    return jnp.minimum(frame, jnp.maximum(length - 1, 0))


def _weights(s: Sizes) -> tuple[int, ...]:
    return (STEP, STEP, STEP, s.features, s.width)


def _gathering(s: Sizes) -> tuple[tuple[tuple[int, ...], Any], ...]:
    """A frame's tokens in float32, and the rows gathered from them."""
    v = s.windows
    return ((v.side**2, s.block), jnp.float32), ((v.cells, TAPS * s.block), jnp.float32)


def _flops(s: Sizes) -> int:
    """Of one product."""
    v = s.windows
    return 2 * s.clips * v.taken * v.cells * TAPS * s.features * s.width


def traffic(s: Sizes, length: Any) -> dict[str, int]:
    """Bytes that each kernel moves."""
    return {launch.name: launch.moved(length) for launch in (forward_launch(s), features_launch(s), weights_launch(s))}
