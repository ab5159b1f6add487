"""The tables that a token plan may name: layout writes their numbers, models read them."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

Unit = Literal[
    "frame",  # a frame of the flat list, or a view of a picture that the same tower sees
    "clip",  # several frames, after a module that looks along time
    "picture",  # a picture that a tower of its own sees
    "sound",  # the filter bank of a sound
    "blend",  # a weighted sum of four rows of the table before this one (a picture made smaller)
]


class Table(IntEnum):
    """Tables a place can take its row from. `VISUAL + k` is number k of `ModelSpec.tables`."""

    PAD = 0
    TEXT = 1
    SPECIAL = 2
    VISUAL = 3


class Special(IntEnum):
    """Rows of the special table: vectors that the connector learns. ACTION is the first of up to three
    that heads read; in a system whose heads read the newline behind a video it is the newline again."""

    NEWLINE = 0
    FASTER = 1
    ACTION = 2


@dataclass(frozen=True)
class TableSpec:
    """One visual table: `rows` rows a unit; row r of unit u is row `u * rows + r` of the table.

    columns: rows that a drawing shows in one line, the width of the grid.
    """

    unit: Unit
    rows: int
    columns: int = 1
