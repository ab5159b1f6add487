"""The middle of a RegNet block: every channel's own 3 x 3 convolution, LayerNorm over channels, SiLU.

Radosavovic et al. 2020 with groups of one channel, as in the stages of VideoLLaMA 2's connector (timm's Bottleneck).
"""

import jax
from jaxtyping import Array, Float

from vidlmm.kernels.choice import Backend, KernelError, backend_for
from vidlmm.kernels.depthwise_norm import gpu, tpu, xla


def depthwise_norm(
    x: Float[Array, "F N D"],
    weight: Float[Array, "3 3 D"],
    scale: Float[Array, " D"],
    bias: Float[Array, " D"],
    *,
    line: int,
    eps: float = 1e-5,
    backend: Backend = "auto",
    interpret: bool = False,
) -> Float[Array, "F N D"]:
    """silu(norm(convolution of x) * scale + bias), zeros around a picture, sums in float32.

    Args:
        x: pictures row by row.
        weight: of each channel alone, by row and column of its window.
        line: pixels of a row of a picture.
        eps: added to the variance.
        backend, interpret: as in `vidlmm.kernels.project_pool`.

    Raises:
        KernelError: shapes that do not belong together, or beyond what the named backend takes.
    """
    width = x.shape[2:]
    if weight.shape != (3, 3, *width) or scale.shape != width or bias.shape != width:
        raise KernelError(
            f"pictures {x.shape} with a convolution {weight.shape}, a scale {scale.shape} and a bias {bias.shape}: "
            f"the convolution is (3, 3, {width[0]}), scale and bias ({width[0]},)"
        )
    if line < 1 or x.shape[1] % line:
        raise KernelError(f"a picture's {x.shape[1]} pixels are no rows of {line}")
    setup = tpu.Setup(line, eps, interpret)
    chosen = backend_for("depthwise_norm", backend, lambda: tpu.sizes_of(x, setup))
    with jax.named_scope(f"depthwise_norm_{chosen}"):
        if chosen == "xla":
            return xla.depthwise_norm(x, weight, scale, bias, line, eps)
        if chosen == "gpu":
            return gpu.depthwise_norm(x, weight, scale, bias, line, eps, interpret)
        return tpu.depthwise_norm(x, weight, scale, bias, setup)
