"""The projector's first layer with its activation and pooling: [F, N, D] features to [G, P, W] cells.

What it saves is the hidden layer of every token, N / P times as large as what leaves. The projector's second layer
follows on the cells: after "average" and "bilinear" that equals pooling after both layers, for the weights of a cell
sum to one. "max" is exact only where no second layer follows.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vidlmm.kernels.activations import Activation, check_activation
from vidlmm.kernels.choice import Backend, KernelError, backend_for
from vidlmm.kernels.grids import Mode, pooled_side, side_of
from vidlmm.kernels.project_pool import gpu, tpu, xla


def project_pool(
    x: Float[Array, "F N D"],
    weight: Float[Array, "D W"],
    bias: Float[Array, " W"],
    *,
    mode: Mode,
    stride: int,
    activation: Activation = "gelu",
    frames: Int[Array, " G"] | None = None,
    backend: Backend = "auto",
    block: int | None = None,
    interpret: bool = False,
) -> Float[Array, "G P W"]:
    """pool(activation(x @ weight + bias)), P cells a frame, sums in float32.

    Args:
        x: N = side * side tokens a frame, row by row, without class token.
        frames: the numbers of the frames to pool, each at most once; None takes all in order. With SlowFast's two
            strides, one call names the slow frames and one the fast, and no frame is projected twice.
        backend: see `vidlmm.kernels.choice`; the compiled program names it (`project_pool_tpu`).
        block: columns of the hidden layer at a time, where the rule's choice is not wanted.
        interpret: runs the named kernel step by step on any device, for tests.

    Raises:
        KernelError: shapes that do not belong together, or beyond what the named backend takes.
    """
    check_activation(activation)
    pooled_side(side_of(x.shape[1]), mode, stride)
    if weight.shape[0] != x.shape[2] or bias.shape != weight.shape[1:]:
        raise KernelError(
            f"features of width {x.shape[2]} with a layer {weight.shape} and a bias {bias.shape}: "
            f"the layer is ({x.shape[2]}, W), its bias (W,)"
        )
    count = x.shape[0] if frames is None else frames.shape[0]
    setup = tpu.Setup(mode, stride, activation, block, interpret)
    chosen = backend_for("project_pool", backend, lambda: tpu.sizes_of(x, weight, count, setup))
    with jax.named_scope(f"project_pool_{chosen}"):
        if chosen == "xla":
            seen = x if frames is None else jnp.take(x, frames, axis=0)
            return xla.project_pool(seen, weight, bias, mode, stride, activation)
        if chosen == "gpu":
            return gpu.project_pool(x, weight, bias, frames, gpu.Setup(mode, stride, activation, block, interpret))
        return tpu.project_pool(x, weight, bias, frames, setup)
