"""A script in words, cell by cell: the text that stands where a video's tokens will stand.

The decoder's base is trained on these boards. They are words of the script alone, no pixel is involved.
"""

from vidlmm.world.motion import Shown, dots_at, shown_at
from vidlmm.world.script import Script
from vidlmm.world.words import place

_WHERE = frozenset(("top", "bottom", "left", "right", "middle"))


def frame_words(script: Script, t: float, grid: int) -> list[tuple[str, ...]]:
    """Words of each cell of a grid x grid picture at time t, row by row.

    A cell names the background, a dot in it, and every thing that covers enough of it, with its place.
    """
    cells: list[list[str]] = [[script.background] for _ in range(grid * grid)]
    for x, y, _ in dots_at(script, t):
        if 0 <= x < 1 and 0 <= y < 1:
            cells[int(y * grid) * grid + int(x * grid)].append("dot")
    for thing in shown_at(script, t):
        where = [word for word in place(thing.x, thing.y).split() if word in _WHERE]
        for row in range(grid):
            for column in range(grid):
                if _covers(thing, row, column, grid):
                    cells[row * grid + column] += [thing.size, thing.colour, thing.shape, *where]
    return [tuple(words) for words in cells]


def _covers(thing: Shown, row: int, column: int, grid: int) -> bool:
    """Whether the thing's box covers a quarter of the cell, or the cell holds its centre."""
    left, top = column / grid, row / grid
    if left <= thing.x < left + 1 / grid and top <= thing.y < top + 1 / grid:
        return True
    across = min(thing.x + thing.radius, left + 1 / grid) - max(thing.x - thing.radius, left)
    down = min(thing.y + thing.radius, top + 1 / grid) - max(thing.y - thing.radius, top)
    return across > 0 and down > 0 and across * down * grid * grid >= 0.25


def storyboard(script: Script, frames: int, grid: int) -> list[list[tuple[str, ...]]]:
    """`frames` boards at equal distances from the clip's beginning to its end."""
    return [frame_words(script, n / max(1, frames - 1), grid) for n in range(frames)]
