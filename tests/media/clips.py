"""Small clips made on the spot, whose frames carry their own number as a row of black and white squares."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream

BITS = 8
_SIDE = 8  # a square of the number, pixels


def numbered(i: int, width: int = 128, height: int = 96) -> np.ndarray:
    """RGB picture of frame `i`: its number in the top row, below it a texture that moves.

    (A texture, because decoders predict it from other frames; what is flat would not need them.)
    """
    texture = np.random.default_rng(0).integers(60, 200, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    picture = np.roll(np.kron(texture, np.ones((4, 4, 1), np.uint8)), (i, 2 * i), (0, 1))[:height, :width].copy()
    picture[:_SIDE] = 0
    for bit in range(BITS):
        picture[:_SIDE, bit * _SIDE : (bit + 1) * _SIDE] = 255 if i >> bit & 1 else 0
    return picture


def number(picture: np.ndarray) -> int:
    """The number that a decoded picture carries."""
    middles = [picture[_SIDE // 2, bit * _SIDE + _SIDE // 2].mean() for bit in range(BITS)]
    return sum(1 << bit for bit, value in enumerate(middles) if value > 127)


def make(
    path: Path,
    frames: int = 40,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (128, 96),
    rate: int = 10,
    options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    rotation: int = 0,
    sound: bool = False,
    container: dict[str, str] | None = None,
    format: str | None = None,
) -> Path:
    """Write a clip. `times`: presentation times in 1/1000 s instead of a constant rate."""
    width, height = size
    with av.open(str(path), "w", format=format, options=container or {}) as output:
        stream = cast(VideoStream, output.add_stream(codec, rate=rate, options=options or {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        audio = _tone(output) if sound else None
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered(i, width, height))
            if times is not None:
                frame.pts, frame.time_base = times[i], Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if audio is not None:
            _write_tone(output, audio, frames / rate)
    return path


def _tone(output):
    return output.add_stream("aac", rate=16000, layout="mono")


def _write_tone(output, stream, seconds: float) -> None:
    count = int(seconds * 16000)
    wave = (np.sin(np.arange(count) * 0.1) * 8000).astype(np.int16)
    for start in range(0, count, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 16000, start
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))
