"""Confidence intervals of a share, by resampling clips.

Questions about one clip share its difficulties, so they are drawn together: an interval over single
questions would be too narrow. (Cluster bootstrap, Davison and Hinkley 1997, section 3.8.)
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
RESAMPLES = 2000
_AT_ONCE = 100  # resamples held in memory
_Z = 1.959963984540054  # the normal quantile of 0.975


@dataclass(frozen=True)
class Interval:
    """A share or a difference of shares: the value and its 95 % interval."""

    value: float
    low: float
    high: float


def share(values: Sequence[float], clips: Sequence[Hashable], seed: int = 0) -> Interval:
    """The mean of values in [0, 1] with its 95 % percentile interval over resampled clips.

    Where every clip has the same mean, resampling knows no spread; there Wilson's interval with as many
    trials as clips is given, so that ten right answers out of ten do not look certain.

    Args:
        values: 1 for a right answer, 0 for a wrong one.
        clips: the clip of each value.
        seed: of the resampling.

    Raises:
        ValueError: no values, or another number of clips.
    """
    sums, counts = _per_clip(values, clips)
    mean = float(sums.sum() / counts.sum())
    if np.ptp(sums / counts) == 0:
        low, high = _wilson(mean, len(sums))
        return Interval(mean, low, high)
    low, high = _resampled(sums, counts, seed)
    return Interval(mean, low, high)


def gain(values: Sequence[float], others: Sequence[float], clips: Sequence[Hashable], seed: int = 0) -> Interval:
    """How much higher the mean of `values` is than that of `others` on the same questions, paired, with
    its 95 % interval over resampled clips. Where every clip has the same difference, the interval is that
    of the share of clips that might differ from it.

    Raises:
        ValueError: lengths differ, or are 0.
    """
    if len(values) != len(others):
        raise ValueError(f"{len(values)} values against {len(others)}; a paired difference needs the same questions")
    sums, counts = _per_clip(np.subtract(values, others).tolist(), clips)
    mean = float(sums.sum() / counts.sum())
    if np.ptp(sums / counts) == 0:
        differing = _wilson(0.0, len(sums))[1]
        return Interval(mean, max(-1.0, mean - differing), min(1.0, mean + differing))
    low, high = _resampled(sums, counts, seed)
    return Interval(mean, low, high)


def _per_clip(values: Sequence[float], clips: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    if not values or len(values) != len(clips):
        raise ValueError(f"{len(values)} values with {len(clips)} clips; give at least one value and a clip for each")
    number = {clip: n for n, clip in enumerate(dict.fromkeys(clips))}
    index = [number[clip] for clip in clips]
    return np.bincount(index, np.asarray(values, float)), np.bincount(index).astype(float)


def _resampled(sums: np.ndarray, counts: np.ndarray, seed: int) -> tuple[float, float]:
    rng, clips = np.random.default_rng(seed), len(sums)
    means = []
    for _ in range(0, RESAMPLES, _AT_ONCE):
        drawn = rng.multinomial(clips, np.full(clips, 1 / clips), size=_AT_ONCE)  # how often each clip is drawn
        means.append((drawn @ sums) / (drawn @ counts))
    low, high = np.percentile(np.concatenate(means), [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def _wilson(mean: float, trials: int) -> tuple[float, float]:
    z2 = _Z * _Z / trials
    middle, half = mean + z2 / 2, (z2 * mean * (1 - mean) + z2 * z2 / 4) ** 0.5
    low, high = (middle - half) / (1 + z2), (middle + half) / (1 + z2)
    # Rounding must not leave the mean outside.
    return (0.0 if mean == 0 else low), (1.0 if mean == 1 else high)
