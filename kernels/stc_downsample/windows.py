"""Windows of 2 x 2 x 2 tokens: to which cell a token goes, as runs of tokens that stand two apart.

A cell (t, h, w) takes the tokens (2t + a - p, 2h + b - p, 2w + c - p) for a, b, c of 0 and 1 and padding p. Windows do
not overlap: a frame belongs to one time step, a token to one cell and one tap (b, c).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

STEP = 2
TAPS = STEP * STEP


@dataclass(frozen=True)
class Windows:
    """A clip of `frames` pictures of side x side tokens with `padding` zeros around."""

    frames: int
    side: int
    padding: int

    @property
    def steps(self) -> int:
        """Time steps that leave."""
        return (self.frames + 2 * self.padding) // STEP

    @property
    def line(self) -> int:
        """Cells of a row."""
        return (self.side + 2 * self.padding) // STEP

    @property
    def cells(self) -> int:
        """Cells of a time step."""
        return self.line**2

    @property
    def taken(self) -> int:
        """Frames that stand in a window; one that does not fill the last is left out."""
        return min(self.frames, STEP * self.steps - self.padding)

    def step_and_tap(self, frame: Any) -> tuple[Any, Any]:
        """The time step of a frame, and its place in the window. A division by two that knows no signs."""
        return (frame + self.padding) >> 1, (frame + self.padding) & 1

    def first_of(self, tap: Any) -> Any:
        """The first frame with this place in a window."""
        return (tap + self.padding) & 1

    def runs(self) -> Iterator[tuple[int, int, int, int]]:
        """(tap, first cell, count, first token) of each run inside a frame; cells without a run take zeros."""
        for tap in range(TAPS):
            down, right = (move - self.padding for move in divmod(tap, STEP))
            columns = self._inside(right)
            for row in self._inside(down):
                token = (STEP * row + down) * self.side + STEP * columns[0] + right
                yield tap, row * self.line + columns[0], len(columns), token

    def _inside(self, move: int) -> range:
        """Cells along an axis whose token, moved by so much, is on the grid."""
        first = -(move // STEP) if move < 0 else 0
        return range(first, min(self.line, (self.side - 1 - move) // STEP + 1))
