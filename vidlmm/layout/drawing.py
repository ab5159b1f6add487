"""A layout as text that a person can read.

    T a text token     S a row of visual table 0 (slow frames, or all)      n newline
    . padding          F a row of visual table 1 (fast frames)              f faster token
                       2 a row of visual table 2, and so on                 a action token

Every grid row begins a line, and the unit's number stands at its first. A video of three frames
with SlowFast (s=3, slow side 2, fast side 1) between two texts:

      TTT
    0 SSn
      SSnf
    1 Fnf
    2 Fnf
      TT
"""

from vidlmm.layout.plan import Plan, Special, Table
from vidlmm.layout.row import Row

LETTERS = {Table.PAD: ".", Table.TEXT: "T"}
SPECIALS = {Special.NEWLINE: "n", Special.FASTER: "f"}
LEVELS = "SF"
LONG = 16  # more equal letters outside a grid are written as a count


def draw(plan: Plan | Row) -> str:
    """The places of a plan or a row, letter by letter.

    Each branch of a tree begins a line with its number: `b1 TTT`.
    """
    lines: list[tuple[str, str]] = []
    branches = plan.branch.tolist() if isinstance(plan, Row) else [0] * len(plan)
    before: tuple[int, int, int] | None = None  # table, line within the unit, branch
    for table, row, branch in zip(plan.table.tolist(), plan.row.tolist(), branches, strict=True):
        name, line = "", 0
        fresh = before is None or before[2] != branch
        if fresh and branch:
            name = f"b{branch}"
        if table >= Table.VISUAL:
            shape = plan.tables[table - Table.VISUAL]
            unit, cell = divmod(row, shape.rows)
            line, column = divmod(cell, shape.columns)
            # A tile that goes on where the tile on its left ends stays on the line.
            goes_on = before is not None and before[:2] == (table, line) and shape.columns > 1
            fresh = fresh or (column == 0 and not goes_on) or _other(before, table)
            name = name or (str(unit) if cell == 0 and fresh else "")
        elif table != Table.SPECIAL:
            fresh = fresh or (before is not None and before[0] >= Table.SPECIAL)
        if fresh:
            lines.append((name, ""))
        lines[-1] = (lines[-1][0], lines[-1][1] + letter(table, row))
        before = (table, line, branch)
    width = max((len(name) for name, _ in lines), default=0)
    return "\n".join(f"{name:>{width}} {_shorten(text)}" for name, text in lines)


def letter(table: int, row: int) -> str:
    """The letter of one place; tables above 1 are drawn as their number."""
    if table == Table.SPECIAL:
        return SPECIALS.get(Special(min(row, Special.ACTION)), "a")
    if table < Table.VISUAL:
        return LETTERS[Table(table)]
    level = table - Table.VISUAL
    return LEVELS[level] if level < len(LEVELS) else str(level)


def _other(before: tuple[int, int, int] | None, table: int) -> bool:
    """Whether media begin after text, or a newline ended the line."""
    return before is not None and (before[0] < Table.SPECIAL or (before[0] == Table.SPECIAL and table >= Table.VISUAL))


def _shorten(text: str) -> str:
    """Long runs of text or padding as a count: TTT...T of 134 is `T*134`."""
    plain = set(text) <= {"T"} or set(text) <= {"."}
    return f"{text[0]}*{len(text)}" if plain and len(text) > LONG else text
