"""The merge of text, learned and visual rows into one sequence by plan: each row is read where it stands.

What it saves is the joining of the tables before a gather, and their gradients in joined form behind it. The gradient
of a row is the sum over the places that read it, in float32 and in the order of the places on every device.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vidlmm.kernels.choice import Backend, KernelError, backend_for
from vidlmm.kernels.splice import gpu, tpu, xla


def splice(
    table: Int[Array, " L"],
    row: Int[Array, " L"],
    tables: Sequence[Float[Array, "_ D"]],
    *,
    dtype: Any = None,
    backend: Backend = "auto",
    interpret: bool = False,
) -> Float[Array, "L D"]:
    """Place l is row `row[l]` of `tables[table[l]]`, or zeros where there is no table of this number, as -1.

    Args:
        row: a row beyond its table is clipped.
        tables: the large one first. They may differ in type.
        dtype: of the result; None takes that of the last table.
        backend, interpret: as in `vidlmm.kernels.project_pool`.

    Raises:
        KernelError: shapes that do not belong together, or beyond what the named backend takes.
    """
    widths = {rows.shape[1] for rows in tables}
    if table.shape != row.shape or table.ndim != 1 or len(widths) != 1:
        raise KernelError(
            f"got places {table.shape} and {row.shape}, tables {[rows.shape for rows in tables]}: a table's number and "
            "a row's for each place, and tables of one width"
        )
    dtype = jnp.dtype(tables[-1].dtype if dtype is None else dtype)
    chosen = backend_for("splice", backend, lambda: tpu.sizes_of(table.shape[0], tables, dtype))
    with jax.named_scope(f"splice_{chosen}"):
        if chosen == "xla":
            return xla.splice(table, row, tables, dtype)
        if chosen == "gpu":
            return gpu.splice(table, row, tables, dtype, interpret)
        return tpu.splice(table, row, tables, dtype, interpret)
