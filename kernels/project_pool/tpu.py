"""Pallas for TPU: a frame's tokens stay on the chip while its hidden columns are made, pooled and forgotten.

Forward: for a frame, block by block of columns, out = M @ activation(x @ w + b), where M [P, N] is the pooling. The
weights stay on the chip for all frames where they fit, so that x, w and out are moved once.
Backward: the block of the hidden layer is made again; a kernel for x keeps d_x of one frame, a kernel for the weights
keeps d_w of its columns over all frames. Whichever gradient nobody asks for is never computed.
"""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from vidlmm.kernels.activations import Activation, activate, slope
from vidlmm.kernels.blocks import LANES, columns, whole_width
from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.grids import Mode, pooling, side_of
from vidlmm.kernels.launch import Block, Launch
from vidlmm.kernels.products import dot, pool_rows, unpool_rows

# Columns of the hidden layer in one step, and bytes of a layer's columns that stay on the chip.
STEP = 896
RESIDENT = 20 * 2**20
GATHERED = 26 * 2**20
MOST_TOKENS, MOST_FEATURES = 1024, 1536


@dataclass(frozen=True)
class Setup:
    """What is static of a call. block: columns in a step, None by rule."""

    mode: Mode
    stride: int
    activation: Activation
    block: int | None = None
    interpret: bool = False


@dataclass(frozen=True)
class Sizes:
    """frames: of the buffer; chosen: those to pool; tokens, features, width: N, D, W; cells: [K, P, N]."""

    frames: int
    chosen: int
    tokens: int
    features: int
    width: int
    cells: tuple[int, int, int]
    dtype: Any
    block: int

    @property
    def bytes_each(self) -> int:
        return jnp.dtype(self.dtype).itemsize

    def resident(self, each: int, most: int) -> int:
        """Columns of the layer that stay on the chip, at `each` bytes a weight: whole steps, equal parts."""
        steps = self.width // self.block
        fitting = [n for n in range(1, steps + 1) if steps % n == 0 and n * self.block * self.features * each <= most]
        return max(fitting, default=1) * self.block


def holds(x: Any, width: int) -> bool:
    """Whether a frame of x [F, N, D] and a layer into `width` columns are within what the kernel takes."""
    return x.shape[1] <= MOST_TOKENS and x.shape[2] <= MOST_FEATURES and (width % LANES == 0 or width <= STEP)


def sizes_of(x: Any, weight: Any, chosen: int, setup: Setup) -> Sizes:
    """Raises KernelError for what does not fit on the chip."""
    frames, tokens, features = x.shape
    width = weight.shape[1]
    if x.dtype not in (jnp.bfloat16, jnp.float32) or weight.dtype != x.dtype:
        raise KernelError(f"got features {x.dtype} and a layer {weight.dtype}: both bfloat16 or both float32")
    if tokens > MOST_TOKENS or features > MOST_FEATURES:
        raise KernelError(
            f"got {tokens} tokens of width {features} a frame; the TPU kernel holds {MOST_TOKENS} of {MOST_FEATURES}"
        )
    whole_width(width, STEP, "a hidden layer")
    cells = pooling(side_of(tokens), setup.mode, setup.stride).shape
    return Sizes(frames, chosen, tokens, features, width, cells, x.dtype, columns(width, STEP, setup.block))


def usual(s: Sizes) -> tuple[np.ndarray, ...]:
    """All frames in order, by which a call declares its traffic."""
    return (np.arange(s.chosen),)


def forward_launch(s: Sizes) -> Launch:
    """Grid: columns that stay, frames, columns of a step."""
    stay = s.resident(s.bytes_each, RESIDENT)
    outer, inner = s.width // stay, stay // s.block
    blocks = (_tokens(s), _layer(s, stay), _bias(s, stay), _pooling(s))
    out = Block(
        (s.chosen, s.cells[1], s.width), s.dtype, (1, s.cells[1], s.block), lambda o, g, i, at: (g, 0, o * inner + i)
    )
    return Launch(
        "project_pool_tpu", (outer, s.chosen, inner), blocks, (out,), (), (True, True, False), 1, _flops(s, 1), usual(s)
    )


def features_launch(s: Sizes) -> Launch:
    """Grid: frames, columns that stay, columns of a step."""
    stay = s.resident(s.bytes_each, RESIDENT)
    outer, inner = s.width // stay, stay // s.block

    def turned(block: Block) -> Block:
        return Block(block.shape, block.dtype, block.block, lambda g, o, i, at: block.at(o, g, i, at), block.kept)

    blocks = tuple(map(turned, (_tokens(s), _layer(s, stay), _bias(s, stay), _pooling(s), _pull(s, stay))))
    one = (s.tokens, s.features)
    out = Block((s.chosen, *one), s.dtype, (1, *one), lambda g, o, i, at: (g, 0, 0))
    grid = (s.chosen, outer, inner)
    scratch = ((one, jnp.float32),)
    return Launch("project_pool_tpu_dx", grid, blocks, (out,), scratch, (True, False, False), 1, _flops(s, 2), usual(s))


def weights_launch(s: Sizes) -> Launch:
    """Grid as in the forward pass. The sums of the layer's gradient are float32."""
    stay = s.resident(2 * (s.bytes_each + 4), GATHERED)
    outer, inner = s.width // stay, stay // s.block
    blocks = (_tokens(s), _layer(s, stay), _bias(s, stay), _pooling(s), _pull(s, stay))
    outs = tuple(
        Block((rows, s.width), jnp.float32, (rows, stay), lambda o, g, i, at: (0, o)) for rows in (s.features, 1)
    )
    return Launch(
        "project_pool_tpu_dw",
        (outer, s.chosen, inner),
        blocks,
        outs,
        (),
        (True, False, False),
        1,
        _flops(s, 2),
        usual(s),
    )


def project_pool(x: jax.Array, weight: jax.Array, bias: jax.Array, frames: jax.Array | None, setup: Setup) -> jax.Array:
    """See `vidlmm.kernels.project_pool`."""
    chosen = x.shape[0] if frames is None else frames.shape[0]
    sizes_of(x, weight, chosen, setup)
    return _project_pool(x, weight, bias.astype(weight.dtype), frames, setup)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _project_pool(x: Any, weight: Any, bias: Any, frames: Any, setup: Setup) -> Any:
    return _forward(x, weight, bias, frames, setup)[0]


def _forward(x: Any, weight: Any, bias: Any, frames: Any, setup: Setup) -> tuple[Any, tuple]:
    at = jnp.arange(x.shape[0], dtype=jnp.int32) if frames is None else frames.astype(jnp.int32)
    launch = forward_launch(sizes_of(x, weight, at.shape[0], setup))
    body = partial(_forward_step, activation=setup.activation)
    out = launch(body, at, x, weight, bias[None], _constant(x, setup), interpret=setup.interpret)
    return out, (x, weight, bias, frames, at)


def _backward(setup: Setup, saved: tuple, pull: Any) -> tuple[Any, Any, Any, None]:
    x, weight, bias, frames, at = saved
    sizes = sizes_of(x, weight, at.shape[0], setup)
    arrays = (at, x, weight, bias[None], _constant(x, setup), pull)
    options = {"activation": setup.activation, "step": sizes.block}
    d_x = features_launch(sizes)(partial(_features_step, **options), *arrays, interpret=setup.interpret)
    d_weight, d_bias = weights_launch(sizes)(partial(_weights_step, **options), *arrays, interpret=setup.interpret)
    if frames is not None:
        d_x = jnp.zeros_like(x).at[at].set(d_x)
    return d_x, d_weight.astype(weight.dtype), d_bias[0].astype(bias.dtype), None


_project_pool.defvjp(_forward, _backward)


def _forward_step(_: Any, x: Any, w: Any, b: Any, m: Any, out: Any, *, activation: Activation) -> None:
    at = _columns(pl.program_id(2), out.shape[2], w.shape[1])
    h = activate(dot(x[0], w[:, at]) + b[:, at].astype(jnp.float32), activation)
    out[0] = pool_rows(m, h.astype(m.dtype)).astype(out.dtype)


def _features_step(
    _: Any, x: Any, w: Any, b: Any, m: Any, pull: Any, out: Any, total: Any, *, activation: Activation, step: int
) -> None:
    o, i = pl.program_id(1), pl.program_id(2)

    @pl.when((o == 0) & (i == 0))
    def _() -> None:
        total[...] = jnp.zeros_like(total)

    at = _columns(i, step, w.shape[1])
    total[...] += dot(_pulled(x[0], w[:, at], b[:, at], m, pull[0, :, at], activation), w[:, at], (1, 1))

    @pl.when((o == pl.num_programs(1) - 1) & (i == pl.num_programs(2) - 1))
    def _() -> None:
        out[0] = total[...].astype(out.dtype)


def _weights_step(
    _: Any, x: Any, w: Any, b: Any, m: Any, pull: Any, d_w: Any, d_b: Any, *, activation: Activation, step: int
) -> None:
    i = pl.program_id(2)

    @pl.when((pl.program_id(1) == 0) & (i == 0))
    def _() -> None:
        d_w[...] = jnp.zeros_like(d_w)
        d_b[...] = jnp.zeros_like(d_b)

    at = _columns(i, step, w.shape[1])
    d_z = _pulled(x[0], w[:, at], b[:, at], m, pull[0, :, at], activation)
    d_w[:, at] += dot(x[0], d_z, (0, 0))
    d_b[:, at] += jnp.sum(d_z.astype(jnp.float32), axis=0, keepdims=True)


def _pulled(x: Any, w: Any, b: Any, m: Any, pull: Any, activation: Activation) -> Any:
    """What the pull on a frame's cells does to its hidden columns before the activation."""
    z = dot(x, w) + b.astype(jnp.float32)
    h = activate(z, activation) if m.shape[0] > 1 else None
    return (unpool_rows(m, pull, h) * slope(z, activation)).astype(x.dtype)


def _columns(number: Any, step: int, held: int) -> Any:
    """A step's columns of those that are held; a single step takes all, whatever their number."""
    return slice(None) if step == held else pl.ds(pl.multiple_of(number * step, step), step)


def _constant(x: Any, setup: Setup) -> Any:
    # Which row of a window is the largest is judged before rounding, or its gradient goes to another row.
    kind = jnp.float32 if setup.mode == "max" else x.dtype
    return jnp.asarray(pooling(side_of(x.shape[1]), setup.mode, setup.stride), kind)


def _tokens(s: Sizes) -> Block:
    one = (s.tokens, s.features)
    return Block((s.frames, *one), s.dtype, (1, *one), lambda o, g, i, at: (at[g], 0, 0))


def _layer(s: Sizes, stay: int) -> Block:
    whole = stay == s.width
    return Block((s.features, s.width), s.dtype, (s.features, stay), lambda o, g, i, at: (0, o), whole)


def _bias(s: Sizes, stay: int) -> Block:
    return Block((1, s.width), s.dtype, (1, stay), lambda o, g, i, at: (0, o))


def _pooling(s: Sizes) -> Block:
    kind = jnp.float32 if s.cells[0] > 1 else s.dtype
    return Block(s.cells, kind, s.cells, lambda o, g, i, at: (0, 0, 0), True)


def _pull(s: Sizes, stay: int) -> Block:
    rows = s.cells[1]
    return Block((s.chosen, rows, s.width), s.dtype, (1, rows, stay), lambda o, g, i, at: (g, 0, o))


def _flops(s: Sizes, products: int) -> int:
    """products: with the layer; the pooling's come with each."""
    return 2 * s.chosen * s.width * (products * s.tokens * s.features + prod(s.cells))


def traffic(s: Sizes, chosen: np.ndarray | None = None) -> dict[str, int]:
    """Bytes that each kernel moves."""
    at = np.arange(s.chosen) if chosen is None else chosen
    return {launch.name: launch.moved(at) for launch in (forward_launch(s), features_launch(s), weights_launch(s))}
