"""A layout as text that a person can read.

    T a text token     S a cell of level 0 (slow frames, or all)      n newline
    . padding          F a cell of level 1 (fast frames)              f faster token
                       2 a cell of level 2, and so on

Every grid row of a frame begins a line, and the frame's number stands at its first. A video of
three frames with SlowFast (s=3, slow side 2, fast side 1) between two texts:

      TTT
    0 SSn
      SSnf
    1 Fnf
    2 Fnf
      TT
"""

from collections.abc import Sequence

from vidlmm.layout.plan import Plan, Special, Table
from vidlmm.layout.row import Row

LETTERS = {Table.PAD: ".", Table.TEXT: "T"}
SPECIALS = {Special.NEWLINE: "n", Special.FASTER: "f"}
LEVELS = "SF"
LONG = 16  # more equal letters outside a grid are written as a count


def draw(plan: Plan | Row, grids: Sequence[int]) -> str:
    """The places of a plan or a row, letter by letter.

    Args:
        plan: what is drawn; each branch of a tree begins a line with its number: `b1 TTT`.
        grids: cells a side on each level (`ModelSpec.grids`).
    """
    lines: list[tuple[str, str]] = []
    branches = plan.branch.tolist() if isinstance(plan, Row) else [0] * len(plan)
    before: tuple[bool, int] | None = None
    for table, row, branch in zip(plan.table.tolist(), plan.row.tolist(), branches, strict=True):
        name, fresh = "", before is None or before[1] != branch
        if fresh and branch:
            name = f"b{branch}"
        if table >= Table.VISUAL:
            side = grids[table - Table.VISUAL]
            frame, cell = divmod(row, side * side)
            fresh = fresh or cell % side == 0 or before == (True, branch)
            name = name or (str(frame) if cell == 0 else "")
        elif table != Table.SPECIAL:
            fresh = fresh or before == (False, branch)
        if fresh:
            lines.append((name, ""))
        lines[-1] = (lines[-1][0], lines[-1][1] + letter(table, row))
        # Text after media and media after text begin a line; special rows stay where they are.
        before = (table < Table.SPECIAL, branch)
    width = max((len(name) for name, _ in lines), default=0)
    return "\n".join(f"{name:>{width}} {_shorten(text)}" for name, text in lines)


def letter(table: int, row: int) -> str:
    """The letter of one place; levels above 1 are drawn as their number."""
    if table == Table.SPECIAL:
        return SPECIALS[Special(row)]
    if table < Table.VISUAL:
        return LETTERS[Table(table)]
    level = table - Table.VISUAL
    return LEVELS[level] if level < len(LEVELS) else str(level)


def _shorten(text: str) -> str:
    """Long runs of text or padding as a count: TTT...T of 134 is `T*134`."""
    plain = set(text) <= {"T"} or set(text) <= {"."}
    return f"{text[0]}*{len(text)}" if plain and len(text) > LONG else text
