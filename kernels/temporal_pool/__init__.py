"""Valley's reductions over time: a clip's frames into one set of patches, in one pass over the features.

"v1" is the mean of each patch over the clip's frames, which is also the residual of v3; "v2" weighs a frame by the
softmax over frames of one score each, a linear layer of all its patches together (Luo et al. 2023, section 4.1).
"""

from typing import Literal

import jax
from jaxtyping import Array, Float, Int

from vidlmm.kernels.choice import Backend, KernelError, backend_for
from vidlmm.kernels.temporal_pool import gpu, tpu, xla

Variant = Literal["v1", "v2"]


def temporal_pool(
    x: Float[Array, "C T M H"],
    length: Int[Array, " C"],
    weight: Float[Array, "P H"] | None = None,
    bias: Float[Array, "1"] | None = None,
    *,
    variant: Variant,
    backend: Backend = "auto",
    interpret: bool = False,
) -> Float[Array, "C P H"]:
    """[C, P, H], P = M - 1: the patches of clips without their class tokens.

    Args:
        x: M rows a frame, the class token first.
        length: true frames of each clip; what stands behind them is neither read nor given a gradient. A clip of none
            gives zeros.
        weight, bias: the layer that scores a frame, for "v2" alone.
        backend, interpret: as in `vidlmm.kernels.project_pool`.

    Raises:
        KernelError: shapes that do not belong together, or beyond what the named backend takes.
    """
    if variant not in ("v1", "v2"):
        raise KernelError(f"a reduction over time is v1 or v2; got {variant!r}")
    clips, _, rows, width = x.shape
    if rows < 2 or length.shape != (clips,):
        raise KernelError(f"got {x.shape} and lengths {length.shape}: a class token and patches, one length a clip")
    if (variant == "v2") != (weight is not None) or (weight is None) != (bias is None):
        raise KernelError(f"v2 takes a layer and its bias, v1 none; got {variant} with weight {weight is not None}")
    if weight is not None and weight.shape != (rows - 1, width):
        raise KernelError(
            f"got frames of {rows - 1} patches of width {width}, the pooling layer scores {weight.shape[0]} of width "
            f"{weight.shape[1]}: give it frames of the size it was made for"
        )
    chosen = backend_for("temporal_pool", backend, lambda: tpu.sizes_of(x, weight is not None))
    with jax.named_scope(f"temporal_pool_{chosen}"):
        if chosen == "xla":
            return xla.temporal_pool(x, length, weight, bias)
        if chosen == "gpu":
            return gpu.temporal_pool(x, length, weight, bias, interpret)
        return tpu.temporal_pool(x, length, weight, bias, interpret)
