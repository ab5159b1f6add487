"""Which packets have to be decoded for the wanted frames: seek or decode through?

A frame needs every packet from the last keyframe before it. These stretches are united, and a
stretch starts anew only where that leaves out more packets than starting again costs.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vidlmm.media.index import Packets

# Starting at a keyframe costs about as much as decoding this many frames in between.
RESTART = 4


@dataclass(frozen=True)
class Run:
    """Packets `start` to `stop`, both included, are decoded without a break.

    targets: presentation time of each wanted frame among them -> its number.
    """

    start: int
    stop: int
    targets: dict[int, int]


def plan_runs(packets: Packets, wanted: Iterable[int]) -> list[Run]:
    """The shortest way to the frames `wanted` (numbers in presentation order) of a timed video."""
    keys = np.flatnonzero(packets.keyframe & (packets.pts >= packets.pts[packets.order[0]]))
    key_times = packets.pts[keys]
    rising = bool(np.all(np.diff(key_times) > 0))
    runs: list[Run] = []
    for frame in sorted(set(wanted)):
        stored = int(packets.order[frame])
        start = _start(packets, keys, key_times, stored) if rising else 0
        target = {int(packets.pts[stored]): frame}
        last = runs[-1] if runs else None
        if last is not None and start <= last.stop + RESTART:
            runs[-1] = Run(last.start, max(last.stop, stored), last.targets | target)
        else:
            runs.append(Run(start if start > RESTART else 0, stored, target))
    return runs


def _start(packets: Packets, keys: np.ndarray, key_times: np.ndarray, stored: int) -> int:
    """The keyframe to start from: the last that is shown and stored no later than the frame itself.

    A frame that is stored after a keyframe but shown before it (an open group of pictures) may need
    the group before.
    """
    before = int(np.searchsorted(key_times, packets.pts[stored], side="right")) - 1
    return int(keys[before]) if before >= 0 and keys[before] <= stored else 0
