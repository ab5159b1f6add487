"""Valley's reductions over time: a clip's frames into one set of patches, in one pass over the features.

"v1" is the mean of each patch over the clip's frames, which is also the residual of v3; "v2" weighs a frame by the
softmax over frames of one score each, a linear layer of all its patches together (Luo et al. 2023, section 4.1).
The attention of v3 is `temporal_attend`: every row asks its own frames, and gets their mean along.
"""

from typing import Literal

import jax
from jaxtyping import Array, Float, Int

from vidlmm.kernels.choice import Backend, KernelError, backend_for
from vidlmm.kernels.temporal_pool import attend_gpu, attend_tpu, gpu, tpu, xla

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


def temporal_attend(
    x: Float[Array, "C T N H"],
    length: Int[Array, " C"],
    position: Float[Array, "T H"],
    ask: Float[Array, "C E N H"],
    *,
    backend: Backend = "auto",
    interpret: bool = False,
) -> tuple[Float[Array, "C E N H"], Float[Array, "C N H"]]:
    """What every row of a clip finds in its own column of frames, and the column's mean: with z = x + position

        weighted[e] = sum over t of softmax(ask[e] . z[t]) z[t],    mean = mean over t of x[t]

    With ask = W_k^T q the scores are those of keys W_k z, and W_v weighted is the sum of values W_v z, so that keys and
    values of all frames are never made.

    Args:
        x: N rows a frame, of which none is special.
        length: true frames of each clip; what stands behind them is neither read nor given a gradient. A clip of none
            gives zeros.
        position: added to the frames; takes no gradient.
        ask: E questions of each row, already scaled.
        backend, interpret: as in `vidlmm.kernels.project_pool`.

    Raises:
        KernelError: shapes that do not belong together, or beyond what the named backend takes.
    """
    clips, frames, rows, width = x.shape
    if length.shape != (clips,) or position.shape != (frames, width):
        raise KernelError(
            f"got {x.shape}, lengths {length.shape} and positions {position.shape}: one length a clip, one position a "
            "frame, as wide as the frames"
        )
    if ask.ndim != 4 or (ask.shape[0], *ask.shape[2:]) != (clips, rows, width) or ask.dtype != x.dtype:
        raise KernelError(
            f"got frames {x.shape} of {x.dtype} and questions {ask.shape} of {ask.dtype}: questions are clips x heads "
            f"x {rows} rows x {width}, in the type of the frames"
        )
    chosen = backend_for("temporal_pool", backend, lambda: attend_tpu.sizes_of(x, ask))
    position = jax.lax.stop_gradient(position)
    with jax.named_scope(f"temporal_attend_{chosen}"):
        if chosen == "xla":
            return xla.temporal_attend(x, length, position, ask)
        if chosen == "gpu":
            return attend_gpu.temporal_attend(x, length, position, ask, interpret)
        return attend_tpu.temporal_attend(x, length, position, ask, interpret)
