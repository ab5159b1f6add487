"""VideoLLaMA 2's sampler: a convolution over time and space whose stride is its window, and SiLU.

Cheng et al. 2024, section 2.1; projector.py:119-250 of the original. A window of 2 x 2 x 2 makes of eight tokens one.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vidlmm.kernels.choice import Backend, KernelError, backend_for
from vidlmm.kernels.grids import side_of
from vidlmm.kernels.stc_downsample import gpu, tpu, xla
from vidlmm.kernels.stc_downsample.launches import Setup, sizes_of


def stc_downsample(
    x: Float[Array, "C T N D"],
    weight: Float[Array, "a b c D W"],
    bias: Float[Array, " W"],
    length: Int[Array, " C"] | None = None,
    *,
    padding: int = 0,
    backend: Backend = "auto",
    block: int | None = None,
    interpret: bool = False,
) -> Float[Array, "C t P W"]:
    """silu(windows of x times weight, plus bias): t time steps of P = h * w cells, sums in float32.

    Args:
        x: N = side * side tokens a frame, row by row, without class token.
        weight: a window of `a` frames, `b` rows and `c` columns. The kernels take 2 x 2 x 2 and paddings 0 and 1.
        length: true frames of each clip, None for all; those behind them count as zeros and get no gradient.
        padding: zeros around the clip, in time as in space. What does not fill a window is left out.
        backend, interpret: as in `vidlmm.kernels.project_pool`.
        block: features of a step (of a tile in a GPU's backward pass), where the rule's choice is not wanted.

    Raises:
        KernelError: shapes that do not belong together, or beyond what the named backend takes.
    """
    clips, frames, tokens, features = x.shape
    if weight.shape[3] != features or bias.shape != weight.shape[4:]:
        raise KernelError(
            f"features of width {features} with weights {weight.shape} and a bias {bias.shape}: "
            f"the weights are (frames, rows, columns, {features}, W), the bias (W,)"
        )
    side, window = side_of(tokens), weight.shape[:3]
    if padding < 0 or any(n + 2 * padding < step for n, step in zip((frames, side, side), window, strict=True)):
        raise KernelError(f"{frames} frames of {side} x {side} tokens, padding {padding}, fill no window of {window}")
    if length is not None and length.shape != (clips,):
        raise KernelError(f"{clips} clips with lengths {length.shape}: one length a clip")
    length = jnp.full(clips, frames, jnp.int32) if length is None else length.astype(jnp.int32)
    setup = Setup(padding, block, interpret)
    chosen = backend_for("stc_downsample", backend, lambda: sizes_of(x, weight, setup))
    with jax.named_scope(f"stc_downsample_{chosen}"):
        if chosen == "xla":
            return xla.stc_downsample(x, weight, bias, length, padding)
        if chosen == "gpu":
            return gpu.stc_downsample(x, weight, bias, length, setup)
        return tpu.stc_downsample(x, weight, bias, length, setup)
