"""How much a single media file may cost."""

import time
from dataclasses import dataclass

from vidlmm.media.errors import MediaError


@dataclass(frozen=True)
class Limits:
    """Caps for one file; whatever exceeds them is a MediaError and never a dead process.

    max_pixels: largest video frame, width x height. A 200 kB file can hold 8192 x 8192 frames.
    max_image_pixels: largest still picture, width x height.
    max_frames: most frames that a video may hold (nine hours at 60 frames a second).
    max_wanted: most frames that one call hands out.
    seconds: wall-clock time for one call, checked between packets.
    threads: decoder threads. One is right inside worker processes.
    """

    max_pixels: int = 16_777_216
    max_image_pixels: int = 67_108_864
    max_frames: int = 2_000_000
    max_wanted: int = 4096
    seconds: float | int = 120.0
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_image_pixels", "max_frames", "max_wanted", "seconds", "threads"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Limits.{name} is {getattr(self, name)}; it has to be positive.")


DEFAULT_LIMITS = Limits()


class Deadline:
    """The moment at which work on a file is given up."""

    def __init__(self, path: str, seconds: float | int) -> None:
        self.path = path
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        """Raises MediaError("timed_out") once the time is over."""
        if time.monotonic() > self._end:
            raise MediaError(self.path, "timed_out", f"not read within {self.seconds:g} s")
