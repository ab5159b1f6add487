"""A plan as numbers: where each place's row stands among the rows of all tables, and who reads each row."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def first_rows(tables: Sequence[int]) -> list[int]:
    """The number of each table's first row when the tables stand behind one another; tables: their rows."""
    return np.cumsum([0, *tables]).tolist()[:-1]


def numbered(table: jax.Array, row: jax.Array, tables: Sequence[int]) -> jax.Array:
    """[L]: the number of each place's row, -1 where there is none. A row beyond its table is clipped."""
    sizes, starts = (jnp.asarray(x, jnp.int32) for x in (tables, first_rows(tables)))
    own = jnp.clip(table, 0, len(tables) - 1)
    there = (table >= 0) & (table < len(tables)) & (sizes[own] > 0)
    return jnp.where(there, starts[own] + jnp.clip(row, 0, sizes[own] - 1), -1)


def by_reader(number: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(places in the order of the rows that they read, those rows); readers of one row stay in order."""
    place = jax.lax.iota(jnp.int32, number.shape[0])
    rows, places = jax.lax.sort((number, place), num_keys=1, is_stable=True)
    return places, rows
