"""The tables that a token plan may name: layout writes their numbers, models read them."""

from enum import IntEnum


class Table(IntEnum):
    """Tables a place can take its row from. `VISUAL + level` is the visual table of a pooling level."""

    PAD = 0
    TEXT = 1
    SPECIAL = 2
    VISUAL = 3


class Special(IntEnum):
    """Rows of the special table: vectors that the connector learns."""

    NEWLINE = 0
    FASTER = 1
