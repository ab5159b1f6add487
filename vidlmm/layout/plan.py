"""The index plan: which row of which table stands at each place of a sequence.

    place   0  1  2  3  4  5  6
    table   T  T  V  V  S  V  V      T text, V visual (level 0), S special
    row    17  4  0  1  0  2  3      17, 4 token ids; 0..3 cells of the frames; 0 the newline

The device holds the tables (the embedding matrix, the learned special rows, one table of pooled
visual tokens a level) and makes the sequence with one gather. A plan is numpy only, so a layout can
be compared with a drawing (`vidlmm.layout.drawing`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from vidlmm.spec.tables import Special, Table

Indices = Int32[np.ndarray, " l"]
Piece = tuple[Int32[np.ndarray, " _"], Int32[np.ndarray, " _"]]  # tables and rows of some places in a row


@dataclass(frozen=True)
class Plan:
    """The places that one picture, video or sound takes in a sequence.

    table: a `Table` value for each place; VISUAL + level for visual places.
    row: the row of that table. Visual rows count `frame * cells[level] + cell`, cells row by row
        over the pooled grid, frames from the item's own first frame.
    frames: frames that the item brings into the frame buffer.
    cells: visual tokens a frame has on each level (the squares of `ModelSpec.grids`).
    """

    table: Indices
    row: Indices
    frames: int
    cells: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.table)


def special(which: Special) -> Piece:
    """One place that shows a learned vector."""
    return np.array([Table.SPECIAL], np.int32), np.array([which], np.int32)


def frame_cells(frame: int, level: int, side: int, *, newlines: bool) -> Piece:
    """All cells of one frame on one level, row by row.

    Args:
        frame: number of the frame within its item.
        level: pooling level.
        side: cells a side on that level.
        newlines: whether the newline row follows each grid row.
    """
    table = np.full((side, side + newlines), Table.VISUAL + level, np.int32)
    row = np.empty_like(table)
    row[:, :side] = frame * side * side + np.arange(side * side).reshape(side, side)
    if newlines:
        table[:, -1], row[:, -1] = Table.SPECIAL, Special.NEWLINE
    return table.ravel(), row.ravel()


def join(pieces: Sequence[Piece]) -> Piece:
    """Pieces one after the other."""
    empty = np.zeros(0, np.int32)
    tables, rows = zip(*pieces, strict=True) if pieces else ((), ())
    return np.concatenate((empty, *tables)), np.concatenate((empty, *rows))


def shift_frames(table: Indices, row: Indices, cells: Sequence[int], by: int) -> Indices:
    """Rows of the same places when the item's first frame is frame number `by` of a longer buffer.

    Args:
        table, row: places of an item or a sample.
        cells: visual tokens a frame has on each level.
        by: frames that stand before the first frame, 0 or more.
    """
    visual = table >= Table.VISUAL
    shifted = row.copy()
    shifted[visual] += by * np.asarray(cells, np.int32)[table[visual] - Table.VISUAL]
    return shifted
