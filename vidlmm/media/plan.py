"""Which packets have to be decoded for the wanted frames: seek or decode through?

A frame needs every packet from the last keyframe before it. These stretches are united, and a
stretch starts anew only where that leaves out more packets than starting again costs.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from vidlmm.media.index import Packets

# Starting at a keyframe costs about as much as decoding this many frames in between.
RESTART = 4


@dataclass
class Run:
    """Packets `start` to `stop`, both included, are decoded without a break.

    targets: presentation time of each wanted frame among them -> its number.
    """

    start: int
    stop: int
    targets: dict[int, int]


def plan_runs(packets: Packets, wanted: Iterable[int]) -> list[Run]:
    """The shortest way to the frames `wanted` (numbers in presentation order) of a timed video."""
    frames = sorted(set(wanted))
    stored = packets.order[frames]
    starts = _starts(packets, stored).tolist()
    runs: list[Run] = []
    for frame, start, stop, time in zip(frames, starts, stored.tolist(), packets.pts[stored].tolist(), strict=True):
        if runs and start <= runs[-1].stop + RESTART:
            runs[-1].stop = max(runs[-1].stop, stop)
            runs[-1].targets[time] = frame
        else:
            runs.append(Run(start if start > RESTART else 0, stop, {time: frame}))
    return runs


def _starts(packets: Packets, stored: Int64[np.ndarray, " w"]) -> Int64[np.ndarray, " w"]:
    """The keyframe to start from for each packet: the last that is shown and stored no later than itself.

    A frame that is stored after a keyframe but shown before it (an open group of pictures) may need
    the group before.
    """
    (keys,) = packets.keyframe.nonzero()
    times = packets.pts[keys]
    shown = times >= packets.pts[packets.order[0]]
    keys, times = keys[shown], times[shown]
    if not len(keys) or not (times[1:] > times[:-1]).all():
        return np.zeros_like(stored)
    before = times.searchsorted(packets.pts[stored], side="right") - 1
    return np.where((before >= 0) & (keys[before] <= stored), keys[before], 0)
