"""Plain JAX for every platform: one gather from the first table, one from the others together.

Backward the places are sorted by the row that they read. Chunk after chunk, readers of one row are summed by a product
with a matrix of zeros and ones, and the sum of a row that a chunk does not end goes on to the next. Every row is then
written once, so that nothing depends on the order in which a device writes.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from vidlmm.kernels.splice.plan import by_reader, first_rows, numbered

CHUNK = 128
Kinds = tuple[tuple[int, Any], ...]


def splice(table: jax.Array, row: jax.Array, tables: Sequence[jax.Array], dtype: Any) -> jax.Array:
    """See `vidlmm.kernels.splice`."""
    number = numbered(table, row, [len(rows) for rows in tables])
    return _splice(number, tuple(tables), dtype, tuple((len(rows), rows.dtype) for rows in tables))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _splice(number: Any, tables: tuple[Any, ...], dtype: Any, kinds: Kinds) -> Any:
    first, others = tables[0], [rows.astype(dtype) for rows in tables[1:] if len(rows)]
    found = jnp.zeros((len(number), first.shape[1]), dtype)
    if others:
        joined = jnp.concatenate(others) if len(others) > 1 else others[0]
        found = jnp.take(joined, number - len(first), axis=0, mode="clip")
    if len(first):
        own = jnp.take(first, number, axis=0, mode="clip").astype(dtype)
        found = jnp.where((number < len(first))[:, None], own, found)
    return jnp.where((number < 0)[:, None], 0, found)


def _forward(number: Any, tables: tuple[Any, ...], dtype: Any, kinds: Kinds) -> tuple[Any, Any]:
    return _splice(number, tables, dtype, kinds), number


def _backward(dtype: Any, kinds: Kinds, number: Any, pull: Any) -> tuple[None, tuple[Any, ...]]:
    places, rows = by_reader(number)
    sums = _sums(places, rows, pull)
    last = rows != jnp.append(rows[1:], -2)
    starts = first_rows([count for count, _ in kinds])
    found = []
    for start, (count, kind) in zip(starts, kinds, strict=True):
        own = last & (rows >= start) & (rows < start + count)
        at = jnp.where(own, rows - start, count)
        found.append(jnp.zeros((count, pull.shape[1]), kind).at[at].set(sums.astype(kind), mode="drop"))
    return None, tuple(found)


_splice.defvjp(_forward, _backward)


def _sums(places: jax.Array, rows: jax.Array, pull: jax.Array) -> jax.Array:
    """[L, D]: at the last reader of a row the sum of the pulls of all of them."""
    length, width = pull.shape
    wide, short = jnp.promote_types(pull.dtype, jnp.float32), -length % CHUNK
    chunks = [jnp.pad(x, (0, short), constant_values=fill).reshape(-1, CHUNK) for x, fill in ((places, 0), (rows, -1))]

    def step(before: tuple[Any, Any], chunk: tuple[Any, Any]) -> tuple[tuple[Any, Any], Any]:
        row, total = before
        places, rows = chunk
        same = (rows[:, None] == rows).astype(pull.dtype)
        own = jnp.where((rows >= 0)[:, None], pull[places], 0)
        sums = jnp.matmul(same, own, precision="highest", preferred_element_type=wide)
        sums += jnp.where((rows == row)[:, None], total, 0)
        return (rows[-1], sums[-1]), sums

    start: Any = jnp.full((), -2, rows.dtype), jnp.zeros(width, wide)
    each: Any = tuple(chunks)
    _, sums = jax.lax.scan(step, start, each)
    return sums.reshape(-1, width)[:length]
