"""Poolings as lists: for each cell the tokens that it takes, which a GPU's threads fetch one by one."""

from collections.abc import Sequence

import numpy as np


def taps(pooling: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(tokens, shares), both [P, most]: in the places behind a cell's last token stand zeros.

    Args:
        pooling: [K, P, N], of `vidlmm.kernels.grids.pooling`; the picks of "max" have a share of one.
    """
    matrix = np.sum(pooling, axis=0)
    counts = np.count_nonzero(matrix, axis=1)
    most = max(counts.max(), 1)
    tokens = np.argsort(matrix == 0, axis=1, kind="stable")[:, :most]
    there = np.arange(most) < counts[:, None]
    shares = np.where(there, np.take_along_axis(matrix, tokens, 1), 0)
    return np.where(there, tokens, 0).astype(np.int32), shares.astype(np.float32)


def turned(pooling: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cells, shares), both [N, most]: for each token the cells that take it."""
    return taps(np.swapaxes(pooling, 1, 2))


def widened(tables: Sequence[np.ndarray], multiple: int = 1) -> list[np.ndarray]:
    """Tables of as many columns as the widest, or the next multiple, filled with zeros."""
    most = -(-max(one.shape[1] for one in tables) // multiple) * multiple
    return [np.pad(one, ((0, 0), (0, most - one.shape[1]))) for one in tables]
