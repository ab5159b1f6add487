"""The one place where text, learned rows and visual rows become one sequence.

A batch is a number of groups, each an equal run of its rows and of its media. A place names a row of its own group's
tables, so that devices that hold different groups never look into one another's.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from vidlmm.kernels import splice
from vidlmm.kernels.blocks import LANES
from vidlmm.models.reduced import backend_of
from vidlmm.models.sharding import Names, Rules, Spec, axes_of, constrain, current_rules, per_device
from vidlmm.spec.tables import Table


def gather_rows(
    table: Int[Array, "B L"],
    row: Int[Array, "B L"],
    text: Float[Array, "V D"],
    special: Float[Array, "S D"],
    visual: Sequence[Float[Array, "_ D"]],
    groups: int = 1,
) -> Float[Array, "B L D"]:
    """Position (b, l) is row `row[b, l]` of table `table[b, l]`; padding is zero.

    Row b is of group b * groups // B, and counts its visual rows from that group's first one.
    A device makes its own places (`vidlmm.kernels.splice`), whose gradients are summed in float32.
    A row beyond its table is the host's mistake (`vidlmm.layout` raises); here it is clipped.
    """
    own = [constrain(level.reshape(groups, -1, level.shape[-1]), "groups", None, None) for level in visual]
    rules, dtype, width = current_rules(), special.dtype, special.shape[1]
    backend = "xla" if width % LANES else backend_of("splice")
    if rules is not None:
        # The vocabulary's rows have come where they stand: place p takes row p of them.
        text = text_rows(jnp.where(table == Table.TEXT, row, 0), text, dtype)

    def merge(table: Array, row: Array, text: Array, special: Array, *own: Array) -> Array:
        group = jnp.arange(len(table)).reshape(-1, *[1] * (table.ndim - 1))
        sizes = jnp.asarray([0] * Table.VISUAL + [level.shape[1] for level in own])
        # A row beyond its group's part is clipped to it.
        row = jnp.where(table >= Table.VISUAL, jnp.clip(row, 0, jnp.maximum(sizes[table] - 1, 0)), row)
        row = row + group * sizes[table]
        if text.ndim == 4:
            row = jnp.where(table == Table.TEXT, jnp.arange(table.size).reshape(table.shape), row)
        tables = [rows.reshape(-1, rows.shape[-1]) for rows in (text, special, *own)]
        found = splice(table.reshape(-1) - Table.TEXT, row.reshape(-1), tables, dtype=dtype, backend=backend)
        return found.reshape(*table.shape, -1)

    table, row = (x.reshape(groups, -1, x.shape[-1]) for x in (table, row))
    if rules is not None:
        of_places = rules.used(("groups", None, "places"), table.shape)
        of_group = Spec(axes_of(of_places, 0) or None)
        of_text = rules.used(("groups", None, "places", None), (*table.shape, width))
        text = text.reshape(*table.shape, -1)
        parts = (of_places, of_places, of_text, Spec(), *[of_group] * len(own))
        merge = per_device(merge, rules, parts, of_text, kernel=backend != "xla")
    found = merge(table, row, text, special, *own)
    return found.reshape(-1, *found.shape[2:])


def take_in_groups(
    rows: Shaped[Array, "P *d"], index: Int[Array, "M *k"], groups: int, names: Names = ()
) -> Shaped[Array, "M ..."]:
    """Rows by their number inside their group's part of `rows`; a number beyond it is clipped to the buffer.

    Args:
        names: of the index's axes but the first, as far as they may be split.
    """
    names = (*names, *[None] * (index.ndim - 1 - len(names)))

    def take(rows: Array, index: Array) -> Array:
        held, size = rows.shape[:2]
        first = (jnp.arange(held) * size).reshape(-1, *[1] * (index.ndim - 1))
        return jnp.take(rows.reshape(-1, *rows.shape[2:]), index + first, axis=0, mode="clip")

    rows, index = (x.reshape(groups, -1, *x.shape[1:]) for x in (rows, index))
    rules = current_rules()
    if rules is not None:
        of_rows = rules.used(("groups", *[None] * (rows.ndim - 1)), rows.shape)
        of_index = rules.used(("groups", None, *names), index.shape)
        take = per_device(take, rules, (of_rows, of_index), of_index)
    found = take(rows, index)
    return found.reshape(-1, *found.shape[2:])


def text_rows(ids: Int[Array, "B L"], table: Float[Array, "V D"], dtype: jnp.dtype) -> Float[Array, "B L D"]:
    """Rows of the vocabulary's table, in `dtype`."""
    rules = current_rules()
    if rules is None:
        return jnp.take(table, ids, axis=0, mode="clip").astype(dtype)
    return _text_rows_apart(ids, table, dtype, rules)


def _text_rows_apart(ids: Array, table: Array, dtype: jnp.dtype, rules: Rules) -> Array:
    """Of a table that devices hold in parts, the ids travel and not the table: each device looks up its part of the
    vocabulary and of the width for all that ask, and sends each its rows."""
    of_ids, of_table = rules.used(("rows", "places"), ids.shape), rules.stored(("vocab", "embed"), table.shape)
    vocabulary, width = axes_of(of_table, 0), axes_of(of_table, 1)

    def look_up(ids: Array, part: Array) -> Array:
        if width:
            ids = jax.lax.all_gather(ids, width, axis=0, tiled=True)
        if vocabulary:
            ids = ids - jax.lax.axis_index(vocabulary) * part.shape[0]
        rows = jnp.take(part, ids, axis=0, mode="clip").astype(dtype)
        if vocabulary:
            here = (ids >= 0) & (ids < part.shape[0])
            rows = jax.lax.psum(jnp.where(here[..., None], rows, 0), vocabulary)
        if width:
            rows = jax.lax.all_to_all(rows, width, split_axis=0, concat_axis=2, tiled=True)
        return rows

    return per_device(look_up, rules, (of_ids, of_table), of_ids)(ids, table)


def blend_rows(
    table: Float[Array, "P D"], taps: Int[Array, "M 4"], shares: Float[Array, "M 4"], groups: int = 1
) -> Float[Array, "M D"]:
    """Weighted sums of four rows each, of the blend's own group; the sums are taken in float32 or more."""
    if not taps.shape[0]:
        return table[:0]
    wide = jnp.promote_types(table.dtype, jnp.float32)
    rows = take_in_groups(table, taps, groups).astype(wide)
    return jnp.einsum("mtd,mt->md", rows, shares.astype(wide)).astype(table.dtype)
