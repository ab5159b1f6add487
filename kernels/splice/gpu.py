"""Pallas for GPUs: a program for some places and columns, which fetches each place's row from the table where it is.

Backward, the places are sorted by the row that they read, so that the readers of a row are a run of that list. A
program has some rows of a table and adds up the pulls of their readers in float32 registers, one after another in the
order of the places, and writes each row once: the sums depend neither on blocks nor on which program comes first. A row
that many places read takes as many steps, beside which the other programs run on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.launch_gpu import Launch, Part, block_of, mask_of, read, steps, write
from vidlmm.kernels.splice.plan import by_reader, first_rows, numbered

# Rows and columns of a program.
ROWS, COLUMNS = 4, 512
# Readers of a row whose pulls are under way at a time.
TOGETHER = 8


@dataclass(frozen=True)
class Sizes:
    """places: of the sequence. tables: rows and type of each. dtype: of the sequence."""

    places: int
    width: int
    dtype: Any
    tables: tuple[tuple[int, Any], ...]

    @property
    def block(self) -> int:
        return block_of(self.width, COLUMNS)

    @property
    def starts(self) -> list[int]:
        return first_rows([count for count, _ in self.tables])

    def grid(self, rows: int) -> tuple[int, int]:
        """Columns, rows."""
        return steps(self.width, self.block), steps(rows, ROWS)


def sizes_of(places: int, tables: Sequence[Any], dtype: Any) -> Sizes:
    """Raises KernelError for another type of numbers."""
    kinds = (dtype, *(rows.dtype for rows in tables))
    if any(kind not in (jnp.bfloat16, jnp.float32) for kind in kinds):
        raise KernelError(f"got tables {[str(kind) for kind in kinds[1:]]} into {kinds[0]}: bfloat16 or float32")
    return Sizes(places, tables[0].shape[1], dtype, tuple((len(rows), jnp.dtype(rows.dtype)) for rows in tables))


def forward_launch(s: Sizes, readers: Sequence[int]) -> Launch:
    """Grid: columns, places. readers: the places that read from each table."""
    ins = (
        Part((s.places,), jnp.int32, (1,)),
        *(
            Part((count, s.width), kind, (0, 1), some * s.width)
            for (count, kind), some in zip(s.tables, readers, strict=True)
        ),
    )
    return Launch("splice_gpu", s.grid(s.places), ins, (Part((s.places, s.width), s.dtype, (0, 1)),))


def backward_launch(s: Sizes, table: int, readers: int) -> Launch:
    """Grid: columns, rows of the table. readers: the places that read from it."""
    count, kind = s.tables[table]
    ins = (
        Part((sum(rows for rows, _ in s.tables) + 1,), jnp.int32, (1,), 2 * count),
        Part((s.places,), jnp.int32, (1,), readers),
        Part((s.places, s.width), s.dtype, (0, 1), readers * s.width),
    )
    return Launch(f"splice_gpu_dx{table}", s.grid(count), ins, (Part((count, s.width), kind, (0, 1)),))


def splice(
    table: jax.Array, row: jax.Array, tables: Sequence[jax.Array], dtype: Any, interpret: bool = False
) -> jax.Array:
    """See `vidlmm.kernels.splice`."""
    sizes_of(len(table), tables, dtype)
    number = numbered(table, row, [len(rows) for rows in tables])
    kept = tuple(rows for rows in tables if len(rows))
    if not kept or not len(table):
        return jnp.zeros((len(table), tables[0].shape[1]), dtype)
    return _splice(number, kept, sizes_of(len(table), kept, dtype), interpret)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _splice(number: Any, tables: tuple[Any, ...], s: Sizes, interpret: bool) -> Any:
    return _forward(number, tables, s, interpret)[0]


def _forward(number: Any, tables: tuple[Any, ...], s: Sizes, interpret: bool) -> tuple[Any, Any]:
    launch = forward_launch(s, [s.places] * len(tables))
    return launch(partial(_forward_body, s=s), number, *tables, interpret=interpret), number


def _backward(s: Sizes, interpret: bool, number: Any, pull: Any) -> tuple[None, tuple[Any, ...]]:
    places, rows = by_reader(number)
    every = jnp.arange(sum(count for count, _ in s.tables) + 1, dtype=jnp.int32)
    first = jnp.searchsorted(rows, every, method="scan_unrolled").astype(jnp.int32)
    found = []
    for table, start in enumerate(s.starts):
        body = partial(_backward_body, start=start, s=s)
        found.append(backward_launch(s, table, s.places)(body, first, places, pull, interpret=interpret))
    return None, tuple(found)


_splice.defvjp(_forward, _backward)


def _forward_body(number: Any, *refs: Any, s: Sizes) -> None:
    *tables, out = refs
    place, there = _rows(s.places)
    column, inside = _columns(s)
    own = read(number.at[place], there)
    found = jnp.zeros((ROWS, s.block), jnp.float32)
    for ref, start, (count, _) in zip(tables, s.starts, s.tables, strict=True):
        mine = (own >= start) & (own < start + count)
        found = jnp.where(mine[:, None], _fetched(ref, own - start, mine, column, inside), found)
    write(out.at[place[:, None], column[None, :]], found, _line(there), inside)


def _backward_body(first: Any, places: Any, pull: Any, out: Any, *, start: int, s: Sizes) -> None:
    row, there = _rows(out.shape[0])
    column, inside = _columns(s)
    begin, end = (read(first.at[start + row + k], there) for k in (0, 1))

    def some(number: Any, total: Any) -> Any:
        for k in range(TOGETHER):
            reader = begin + number * TOGETHER + k
            mine = reader < end
            total += _fetched(pull, read(places.at[reader], mine), mine, column, inside)
        return total

    times = jax.lax.div(jnp.max(end - begin) + TOGETHER - 1, TOGETHER)
    total = jax.lax.fori_loop(0, times, some, jnp.zeros((ROWS, s.block), jnp.float32))
    write(out.at[row[:, None], column[None, :]], total, _line(there), inside)


def _fetched(ref: Any, rows: Any, mine: Any, column: Any, inside: Any) -> Any:
    """[rows, columns] in float32; what is not `mine` is not fetched, and zero."""
    return read(ref.at[rows[:, None], column[None, :]], mine[:, None], inside).astype(jnp.float32)


def _rows(rows: int) -> tuple[Any, Any]:
    """A program's rows, and which there are."""
    row = pl.program_id(1) * ROWS + jnp.arange(ROWS)
    return row, mask_of(row, rows, ROWS)


def _columns(s: Sizes) -> tuple[Any, Any]:
    """A program's columns, and as one line which there are."""
    column = pl.program_id(0) * s.block + jnp.arange(s.block)
    there = mask_of(column, s.width, s.block)
    return column, None if there is None else there[None, :]


def _line(mask: Any) -> Any:
    return None if mask is None else mask[:, None]
