"""A video's features pooled straight into the rows that the decoder reads.

LLaVA-Video's order (section 3.1): every line of a frame's cells ends with the newline; with the SlowFast pattern
V=(T, M, s, p) frame i has stride p where i is a multiple of s and 2p elsewhere, and a faster token ends every frame.
"""

import jax
from jaxtyping import Array, Float

from vidlmm.kernels.choice import Backend, KernelError, backend_for
from vidlmm.kernels.grids import Mode, side_of
from vidlmm.kernels.slowfast_pool import gpu, tpu, xla
from vidlmm.kernels.slowfast_pool.rows import Rows


def slowfast_pool(
    x: Float[Array, "F N D"],
    newline: Float[Array, " D"] | None,
    faster: Float[Array, " D"] | None,
    *,
    mode: Mode,
    stride: int,
    every: int = 0,
    backend: Backend = "auto",
    block: int | None = None,
    interpret: bool = False,
) -> Float[Array, "R D"]:
    """The rows of one video in order; sums in float32. Several videos go through `jax.vmap`.

    Args:
        x: N = side * side tokens a frame, row by row.
        newline, faster: the learned rows; None leaves their places out.
        every: 0 pools all frames alike.
        backend, interpret: as in `vidlmm.kernels.project_pool`.
        block: columns of a step, where the rule's choice is not wanted.

    Raises:
        KernelError: shapes that do not belong together, or beyond what the named backend takes.
    """
    if every < 0:
        raise KernelError(f"`every` counts frames from one slow frame to the next, 0 for all alike; got {every}")
    rows = Rows(side_of(x.shape[1]), mode, stride, every, newline is not None, faster is not None)
    for level in range(rows.levels):
        rows.cells(level)
    for name, one in (("newline", newline), ("faster", faster)):
        if one is not None and one.shape != x.shape[2:]:
            raise KernelError(f"features of width {x.shape[2]} with a {name} row {one.shape}: make the widths equal")
    setup = tpu.Setup(rows, x.shape[0], block, interpret)
    chosen = backend_for("slowfast_pool", backend, lambda: tpu.sizes_of(x.shape[2], x.dtype, setup))
    with jax.named_scope(f"slowfast_pool_{chosen}"):
        if chosen == "xla":
            return xla.slowfast_pool(x, newline, faster, rows)
        if chosen == "gpu":
            return gpu.slowfast_pool(x, newline, faster, gpu.Setup(rows, x.shape[0], block, interpret))
        return tpu.slowfast_pool(x, newline, faster, setup)
