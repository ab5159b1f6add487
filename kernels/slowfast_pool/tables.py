"""What a video's rows are made of, as tables of numbers for kernels that fetch tokens one by one."""

from typing import NamedTuple

import numpy as np

from vidlmm.kernels.slowfast_pool.rows import Rows
from vidlmm.kernels.taps import taps, turned, widened

# Tokens that a program fetches at a time, as one block.
TOGETHER = 4


class Tables(NamedTuple):
    """places: [R, 4] of each row its frame, its line of the tables, its learned row (0 none, 1 newline, 2 faster) and
    how many times four tokens it takes. tokens, shares: [lines, K], those of slow frames first. frames: [F, 3] of each
    frame its first row, its level and the level's first line. rows, parts: [levels, N, K'], the rows of its frame that
    take a token, and their parts."""

    places: np.ndarray
    tokens: np.ndarray
    shares: np.ndarray
    frames: np.ndarray
    rows: np.ndarray
    parts: np.ndarray

    @property
    def fetched(self) -> int:
        """Tokens that the rows of the video take."""
        return int(np.count_nonzero(self.shares, axis=1)[self.places[:, 1]].sum())

    @property
    def windows(self) -> int:
        """Tokens of the windows in which the tokens stand that the rows take."""
        return int((np.count_nonzero(self.shares, axis=1) ** 2)[self.places[:, 1]].sum())


def tables_of(rows: Rows, frames: int) -> Tables:
    """From the matrices that the TPU's kernel multiplies with."""
    spread = [rows.spread(level) for level in range(rows.levels)]
    forward, backward = list(zip(*map(taps, spread), strict=True)), list(zip(*map(turned, spread), strict=True))
    tokens, shares = (np.concatenate(widened(tables, TOGETHER)) for tables in forward)
    first_line = np.cumsum([0, *(one.shape[1] for one in spread)])
    newlines, fasters = rows.learned(frames)
    learned = (newlines + 2 * fasters).astype(int)
    times = -(-np.count_nonzero(shares, axis=1) // TOGETHER)
    spots = list(rows.places(frames))
    owner = np.concatenate([np.full(count, frame) for frame, (_, _, count) in enumerate(spots)])
    line = np.concatenate([first_line[level] + np.arange(count) for level, _, count in spots])
    of_frames = [(first, level, first_line[level]) for level, first, _ in spots]
    return Tables(
        np.column_stack([owner, line, learned, times[line]]).astype(np.int32),
        tokens,
        shares,
        np.asarray(of_frames, np.int32),
        *(np.stack(widened(tables)) for tables in backward),
    )
