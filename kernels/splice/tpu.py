"""Pallas for TPU: rows are fetched one by one from the tables where they stand, forward and backward alike.

A step makes 128 rows of an array. While it works on what was fetched for it, the rows of the next step are on their
way. Two bfloat16 rows share a word of memory, so that a pair is the least that can be fetched; of consecutive rows each
pair is fetched once. Backward a step takes the pulls of 128 readers, sorted by the row that they read, and adds them to
128 rows of a table by a product with a matrix of zeros and ones; steps follow the table from its first row to its last,
so that each is written once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from vidlmm.kernels.blocks import LANES, columns
from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.launch import Block, Launch
from vidlmm.kernels.products import dot
from vidlmm.kernels.splice.plan import by_reader, first_rows, numbered

ROWS = 128
# Columns that a step works on at a time.
PIECE = 512
MOST_WIDTH = 8192
# Rows of a table that is not made longer.
LEAST = 16
# What is in the words fetched for a row: nothing for it; it in the lower or the upper half, or in the upper half of
# those before; it alone.
NONE, LOWER, UPPER, BEFORE, WHOLE = range(5)


@dataclass(frozen=True)
class Sizes:
    """places: of the sequence. tables: rows and type of each. dtype: of the sequence."""

    places: int
    width: int
    dtype: Any
    tables: tuple[tuple[int, Any], ...]

    @property
    def starts(self) -> list[int]:
        return first_rows([count for count, _ in self.tables])


def sizes_of(places: int, tables: Sequence[Any], dtype: Any) -> Sizes:
    """Raises KernelError for what the kernel does not take."""
    kinds = (dtype, *(rows.dtype for rows in tables))
    if any(kind not in (jnp.bfloat16, jnp.float32) for kind in kinds):
        raise KernelError(f"got tables {[str(kind) for kind in kinds[1:]]} into {kinds[0]}: bfloat16 or float32")
    width = tables[0].shape[1]
    if width % LANES or width > MOST_WIDTH:
        raise KernelError(f"rows of width {width}: the TPU kernel takes multiples of {LANES} up to {MOST_WIDTH}")
    return Sizes(places, width, dtype, tuple((len(rows), jnp.dtype(rows.dtype)) for rows in tables))


def forward_launch(s: Sizes) -> Launch:
    """Grid: rows of the sequence, 128 at a time. Inputs: what this step fetches, what the next one does, and what it
    finds there."""
    steps = -(-s.places // ROWS)
    ins = (_numbers(steps, 0), _numbers(steps, 1), _codes(steps))
    out = Block((s.places, s.width), s.dtype, (ROWS, s.width), lambda i: (i, 0))
    return Launch("splice_tpu", (steps,), ins, (out,), (_fetched(s),), (False,), left=len(s.tables), signals=2)


def backward_launch(s: Sizes, table: int) -> Launch:
    """Grid: readers of a table, 128 at a time; the prefetched array tells of each step whose 128 rows they read."""
    count, kind = s.tables[table]
    block = min(ROWS, count)
    steps = backward_steps(s, table)
    ins = (_numbers(steps, 0), _numbers(steps, 1), _codes(steps), _codes(steps))
    out = Block((count, s.width), kind, (block, s.width), lambda i, at: (at[i], 0))
    scratch = (_fetched(s), ((block, s.width), jnp.float32))
    return Launch(f"splice_tpu_dx{table}", (steps,), ins, (out,), scratch, (False,), 1, left=1, signals=2)


def backward_steps(s: Sizes, table: int) -> int:
    """Enough for any plan: every 128 rows of the table have a step, and full steps of readers as many."""
    return -(-s.tables[table][0] // ROWS) + s.places // ROWS


def splice(
    table: jax.Array, row: jax.Array, tables: Sequence[jax.Array], dtype: Any, interpret: bool = False
) -> jax.Array:
    """See `vidlmm.kernels.splice`."""
    sizes_of(table.shape[0], tables, dtype)
    number, kept = numbered_where_there(table, row, tables)
    if not kept:
        return jnp.zeros((table.shape[0], tables[0].shape[1]), dtype)
    kept = tuple(_even(rows) for rows in kept)
    return _splice(number, kept, sizes_of(table.shape[0], kept, dtype), interpret)


def numbered_where_there(
    table: jax.Array, row: jax.Array, tables: Sequence[jax.Array]
) -> tuple[jax.Array, list[jax.Array]]:
    """(`numbered` by the rows of tables as the kernel holds them, the tables that have rows)."""
    held = [len(rows) + _short(rows) for rows in tables]
    row = jnp.clip(row, 0, jnp.asarray([max(len(rows) - 1, 0) for rows in tables])[jnp.maximum(table, 0)])
    return numbered(table, row, held), [rows for rows in tables if len(rows)]


def _short(rows: jax.Array) -> int:
    """Rows that a table lacks to hold whole pairs."""
    return 0 if not len(rows) else max(LEAST - len(rows), len(rows) % 2)


def _even(rows: jax.Array) -> jax.Array:
    short = _short(rows)
    return jnp.pad(rows, ((0, short), (0, 0))) if short else rows


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _splice(number: Any, tables: tuple[Any, ...], s: Sizes, interpret: bool) -> Any:
    return _forward(number, tables, s, interpret)[0]


def _forward(number: Any, tables: tuple[Any, ...], s: Sizes, interpret: bool) -> tuple[Any, Any]:
    fetch, code = forward_plan(number, s)
    body = partial(_forward_step, s=s)
    return forward_launch(s)(body, fetch, fetch, code, *tables, interpret=interpret), number


def _backward(s: Sizes, interpret: bool, number: Any, pull: Any) -> tuple[None, tuple[Any, ...]]:
    pull, readers, found = _even(pull), by_reader(number), []
    for table in range(len(s.tables)):
        at, fetch, code, own = backward_plan(*readers, s, table)
        body = partial(_backward_step, kind=pull.dtype, rows=len(pull))
        arrays = (at, fetch, fetch, code, own, pull)
        found.append(backward_launch(s, table)(body, *arrays, interpret=interpret))
    return None, tuple(found)


_splice.defvjp(_forward, _backward)


def forward_plan(number: jax.Array, s: Sizes) -> tuple[jax.Array, jax.Array]:
    """([steps, 1, 128]: rows to fetch, -1 for none; what is found there)."""
    number = jnp.pad(number, (0, -len(number) % ROWS), constant_values=-1).reshape(-1, ROWS)
    row, pairs = number, jnp.zeros(number.shape, bool)
    for start, (count, kind) in zip(s.starts, s.tables, strict=True):
        own = (number >= start) & (number < start + count)
        row, pairs = jnp.where(own, number - start, row), pairs | (own & (kind == jnp.bfloat16))
    return _told(number, row, pairs)


def backward_plan(places: jax.Array, rows: jax.Array, s: Sizes, table: int) -> tuple[jax.Array, ...]:
    """(which 128 rows of the table each step adds to; [steps, 1, 128]: pulls to fetch; what is found there; the row of
    the 128 that each is added to, -1 for none)."""
    start, (count, _) = s.starts[table], s.tables[table]
    blocks, steps = -(-count // ROWS), backward_steps(s, table)
    edges = jnp.minimum(start + ROWS * jnp.arange(blocks + 1), start + count)
    first = _before(rows, edges)
    needed = jnp.maximum(-(-jnp.diff(first) // ROWS), 1)
    begins, step = jnp.cumsum(needed) - needed, jnp.arange(steps)
    at = _before(begins, step + 1) - 1
    chosen = at[:, None] == jnp.arange(blocks)
    begin, end, skipped = (jnp.sum(jnp.where(chosen, x, 0), axis=1) for x in (first[:-1], first[1:], begins))
    begin += ROWS * (step - skipped)
    there = begin[:, None] + jnp.arange(ROWS) < end[:, None]

    def runs(x: jax.Array) -> jax.Array:
        """128 in a row of each step; single numbers would be looked up one by one."""
        x = jnp.pad(x, (0, ROWS))
        return jax.vmap(lambda k: jax.lax.dynamic_slice(x, (k,), (ROWS,)))(begin)

    number = jnp.where(there, runs(places), -1)
    own = jnp.where(there, runs(rows) - start - ROWS * at[:, None], -1)
    pairs = there & (s.dtype == jnp.bfloat16)
    return at.astype(jnp.int32), *_told(number, number, pairs), own[:, None]


def _before(numbers: jax.Array, edges: jax.Array) -> jax.Array:
    """How many of the numbers are below each edge."""
    return jnp.sum(numbers < edges[:, None], axis=1, dtype=jnp.int32)


def _told(number: jax.Array, row: jax.Array, pairs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What is fetched and found, of rows by their numbers and by those in their own tables."""
    upper = pairs & (row % 2 == 1)
    follows = jnp.pad(number[:, :-1], ((0, 0), (1, 0)), constant_values=-2) == number - 1
    code = jnp.where(pairs, jnp.where(upper, jnp.where(follows, BEFORE, UPPER), LOWER), WHOLE)
    code = jnp.where(number < 0, NONE, code)
    return jnp.where(code == BEFORE, -1, number)[:, None], code[:, None]


def fetched(fetch: Any, s: Sizes) -> int:
    """Bytes of the rows that a plan fetches."""
    return int(np.sum(np.asarray(fetch) >= 0)) * 4 * s.width


def _forward_step(now: Any, then: Any, code: Any, *refs: Any, s: Sizes) -> None:
    *tables, out, words, signals = refs
    sources = [
        (ref, start, count, kind == jnp.bfloat16)
        for ref, start, (count, kind) in zip(tables, s.starts, s.tables, strict=True)
    ]
    slot = _exchange(now, then, sources, words, signals)
    found = _column(code[0])

    def piece(columns: Any) -> None:
        out[:, columns] = _values(words[slot, :, columns], found).astype(out.dtype)

    _pieces(s.width, piece)


def _backward_step(
    at: Any, now: Any, then: Any, code: Any, own: Any, pull: Any, out: Any, words: Any, total: Any, signals: Any,
    *, kind: Any, rows: int,
) -> None:  # fmt: skip
    slot = _exchange(now, then, [(pull, 0, rows, kind == jnp.bfloat16)], words, signals)
    found, step = _column(code[0]), pl.program_id(0)
    begins = (step == 0) | (at[step] != at[jnp.maximum(step - 1, 0)])
    belongs = own[0] == jax.lax.broadcasted_iota(jnp.int32, (out.shape[0], ROWS), 0)

    def piece(columns: Any) -> None:
        new = dot(belongs.astype(kind), _values(words[slot, :, columns], found).astype(kind))
        total[:, columns] = jnp.where(begins, 0.0, total[:, columns]) + new
        out[:, columns] = total[:, columns].astype(out.dtype)

    _pieces(out.shape[1], piece)


def _exchange(now: Any, then: Any, sources: Sequence[tuple[Any, int, int, bool]], words: Any, signals: Any) -> Any:
    """Sends for the next step's rows and waits for this step's: where in `words` these are."""
    step = pl.program_id(0)
    slot = jax.lax.rem(step, 2)
    send = partial(_send, sources=sources, words=words, signals=signals)

    @pl.when(step == 0)
    def _() -> None:
        send(now, 0)

    @pl.when(step + 1 < pl.num_programs(0))
    def _() -> None:
        send(then, 1 - slot)

    def wait(i: Any, carry: Any) -> Any:
        @pl.when(now[0, 0, i] >= 0)
        def _() -> None:
            ref, *_, pairs = sources[0]
            _copy(ref, 0, pairs, words, slot, i, signals).wait()

        return carry

    jax.lax.fori_loop(0, ROWS, wait, 0)
    return slot


def _send(numbers: Any, slot: Any, *, sources: Any, words: Any, signals: Any) -> None:
    def one(i: Any, carry: Any) -> Any:
        number = numbers[0, 0, i]
        for ref, start, count, pairs in sources:

            @pl.when((number >= start) & (number < start + count))
            def _(ref: Any = ref, start: int = start, pairs: bool = pairs) -> None:
                row = number - start
                _copy(ref, row >> 1 if pairs else row, pairs, words, slot, i, signals).start()

        return carry

    jax.lax.fori_loop(0, ROWS, one, 0)


def _copy(ref: Any, row: Any, pairs: bool, words: Any, slot: Any, i: Any, signals: Any) -> Any:
    source = ref.bitcast(jnp.int32)
    return pltpu.make_async_copy(source.at[pl.ds(row, 1)], words.at[slot, pl.ds(i, 1)], signals.at[slot])


def _values(words: Any, found: Any) -> Any:
    """float32 of the words of 128 rows; found: [128, 1]."""
    # A bfloat16 number is the upper half of a float32 one.
    upper = words & jnp.int32(-65536)
    bits = jnp.where(found == LOWER, words << 16, jnp.where(found == WHOLE, words, upper))
    bits = jnp.where(found == BEFORE, pltpu.roll(upper, 1, 0), bits)
    return jax.lax.bitcast_convert_type(jnp.where(found == NONE, 0, bits), jnp.float32)


def _column(line: Any) -> Any:
    """[1, 128] as [128, 1]."""
    places = [jax.lax.broadcasted_iota(jnp.int32, (ROWS, ROWS), axis) for axis in (0, 1)]
    chosen = jnp.where(places[0] == places[1], line.astype(jnp.float32), 0.0)
    return jnp.sum(chosen, axis=1, keepdims=True).astype(jnp.int32)


def _pieces(width: int, piece: Any) -> None:
    """A function of columns, a piece of the width at a time."""
    size = columns(width, PIECE)

    def one(i: Any, carry: Any) -> Any:
        piece(pl.ds(pl.multiple_of(i * size, size), size))
        return carry

    jax.lax.fori_loop(0, width // size, one, 0)


def _numbers(steps: int, ahead: int) -> Block:
    last = steps - 1
    return Block(
        (steps, 1, ROWS), jnp.int32, (1, 1, ROWS), lambda i, *_: (jnp.minimum(i + ahead, last), 0, 0), scalar=True
    )


def _codes(steps: int) -> Block:
    return Block((steps, 1, ROWS), jnp.int32, (1, 1, ROWS), lambda i, *_: (i, 0, 0))


def _fetched(s: Sizes) -> tuple[tuple[int, ...], Any]:
    return (2, ROWS, s.width), jnp.int32
