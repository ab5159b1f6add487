"""The one place where text, learned rows and visual rows become one sequence."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vidlmm.spec.tables import Table


def gather_rows(
    table: Int[Array, "B L"],
    row: Int[Array, "B L"],
    text: Float[Array, "V D"],
    special: Float[Array, "S D"],
    visual: Sequence[Float[Array, "_ D"]],
) -> Float[Array, "B L D"]:
    """Position (b, l) is row `row[b, l]` of table `table[b, l]`; padding is zero.

    The small tables stand in one array and are gathered together; the vocabulary's is gathered in place.
    A row beyond its table is the host's mistake (`vidlmm.layout` raises); here it is clipped.
    """
    small = jnp.concatenate([special, *visual])
    sizes = [special.shape[0], *(level.shape[0] for level in visual)]
    starts = jnp.asarray([0, 0] + [sum(sizes[:i]) for i in range(len(sizes))])
    of_small = jnp.take(small, jnp.where(table >= Table.SPECIAL, starts[table] + row, 0), axis=0, mode="clip")
    of_text = jnp.take(text, jnp.where(table == Table.TEXT, row, 0), axis=0, mode="clip")
    merged = jnp.where((table == Table.TEXT)[..., None], of_text.astype(small.dtype), of_small)
    return jnp.where((table == Table.PAD)[..., None], 0, merged)


def blend_rows(table: Float[Array, "P D"], taps: Int[Array, "M 4"], shares: Float[Array, "M 4"]) -> Float[Array, "M D"]:
    """Weighted sums of four rows each; the sums are taken in float32."""
    if not taps.shape[0]:
        return table[:0]
    rows = jnp.take(table, taps, axis=0, mode="clip").astype(jnp.float32)
    return jnp.einsum("mtd,mt->md", rows, shares.astype(jnp.float32)).astype(table.dtype)
