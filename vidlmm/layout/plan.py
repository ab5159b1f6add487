"""The index plan: which row of which table stands at each place of a sequence.

    place   0  1  2  3  4  5  6
    table   T  T  V  V  S  V  V      T text, V visual (table 0), S special
    row    17  4  0  1  0  2  3      17, 4 token ids; 0..3 cells of the frames; 0 the newline

The device holds the tables (the embedding matrix, the learned special rows, the visual tables of
`ModelSpec.tables`) and makes the sequence with one gather. A plan is numpy only, so a layout can be
compared with a drawing (`vidlmm.layout.drawing`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int32

from vidlmm.layout.shows import Shows, TableSpecs, renumber, together, widest
from vidlmm.spec.tables import Special, Table

Indices = Int32[np.ndarray, " l"]
Piece = tuple[Int32[np.ndarray, " _"], Int32[np.ndarray, " _"]]  # tables and rows of some places in a row


@dataclass(frozen=True)
class Plan:
    """The places that one picture, video or sound takes in a sequence.

    table: a `Table` value for each place; VISUAL + k for visual table number k.
    row: the row of that table. Visual rows count `unit * rows + row`, units from the item's own first.
    tables: the visual tables as this item counts them: those of clips and sounds are as long as its own.
    shows: what the item brings.
    """

    table: Indices
    row: Indices
    tables: TableSpecs = ()
    shows: Shows = field(default_factory=Shows)

    @property
    def frames(self) -> int:
        """Frames that the item brings into the frame buffer."""
        return self.shows.frames

    def __len__(self) -> int:
        return len(self.table)


def special(which: int) -> Piece:
    """One place that shows a learned vector, a row of `Special`."""
    return np.array([Table.SPECIAL], np.int32), np.array([which], np.int32)


def visual(number: int, rows: Int32[np.ndarray, "..."] | Sequence[int]) -> Piece:
    """Rows of visual table `number`, in the order given."""
    row = np.asarray(rows, np.int32).ravel()
    return np.full_like(row, Table.VISUAL + number), row


def frame_cells(frame: int, number: int, side: int, *, newlines: bool) -> Piece:
    """All cells of one frame in one table, row by row.

    Args:
        frame: number of the frame within its item.
        number: the visual table.
        side: cells a side in that table.
        newlines: whether the newline row follows each grid row.
    """
    first = frame * side * side
    cells = visual(number, range(first, first + side * side))
    return with_newlines(cells, side) if newlines else cells


def with_newlines(cells: Piece, columns: int) -> Piece:
    """The newline after every `columns` places."""
    table, row = (part.reshape(-1, columns) for part in cells)
    ends = np.full((len(table), 1), Table.SPECIAL, np.int32), np.full((len(table), 1), Special.NEWLINE, np.int32)
    return np.concatenate([table, ends[0]], 1).ravel(), np.concatenate([row, ends[1]], 1).ravel()


def join(pieces: Sequence[Piece]) -> Piece:
    """Pieces one after the other."""
    empty = np.zeros(0, np.int32)
    tables, rows = zip(*pieces, strict=True) if pieces else ((), ())
    return np.concatenate((empty, *tables)), np.concatenate((empty, *rows))


def chain(plans: Sequence[Plan]) -> Plan:
    """Several plans one after the other, as one.

    Raises:
        ValueError: none, or plans of systems with other tables.
    """
    if not plans:
        raise ValueError("a chain needs at least one plan, got none")
    own = [plan.tables for plan in plans]
    tables = widest(own)
    pieces = []
    before: dict[str, int] = {}
    for plan in plans:
        pieces.append((plan.table, renumber(plan.table, plan.row, plan.tables, tables, before)))
        before = {unit: before.get(unit, 0) + count for unit, count in plan.shows.units.items()}
    return Plan(
        *join(pieces), tables, together([plan.shows for plan in plans], tables, [plan.tables for plan in plans])
    )
