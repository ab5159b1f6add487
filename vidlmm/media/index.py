"""What a video holds: its frames in presentation order, their times, its keyframes. The packets
alone tell, in one pass over the file.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Bool, Float64, Int64

from vidlmm.media.errors import MediaError
from vidlmm.media.limits import DEFAULT_LIMITS, Limits
from vidlmm.media.open import Faults, OpenVideo, codec_name, open_video
from vidlmm.media.orientation import shown_size, turn
from vidlmm.media.outline import MATROSKA

# stands for "no time given" in arrays of times
NO_TIME = np.iinfo(np.int64).min
_KEEP_BYTES = 1 << 25  # packets of a video up to this size stay in memory and are not read again
_HIGHEST_RATE = 1000.0  # frames a second; a container that claims more is not believed


@dataclass(frozen=True, eq=False)
class Packets:
    """The video packets in the order in which they are stored and decoded.

    pts: presentation times in units of the stream's time base.
    keyframe: decoding can start here.
    shown: the packet gives a frame of the video. Not so for what an edit list cuts off, for what
        comes before the first keyframe, and for VP8's invisible reference frames.
    order: packet of the i-th frame in presentation order.
    timed: every frame has a time of its own. Where not (H.264 with B-frames in AVI, damaged
        containers), frames can only be counted while all of them are decoded.
    """

    pts: Int64[np.ndarray, " p"]
    keyframe: Bool[np.ndarray, " p"]
    shown: Bool[np.ndarray, " p"]
    order: Int64[np.ndarray, " n"]
    timed: bool


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """A video as its packets describe it.

    frames: number of frames; frame i is the i-th in presentation order.
    fps: mean rate, frames a second, as the container has it or else frames / duration.
    duration: from the start of the first frame to the end of the last, seconds.
    width, height: of the upright picture, pixels.
    rotation: degrees clockwise from the stored to the upright picture: 0, 90, 180 or 270.
    times: start of each frame in seconds from the first frame.
    keyframes: indices of the frames that are keyframes.
    packets: where the frames are stored, for `read_frames`.
    """

    path: str
    frames: int
    fps: float
    duration: float
    width: int
    height: int
    rotation: int
    times: Float64[np.ndarray, " n"]
    keyframes: tuple[int, ...]
    codec: str
    has_audio: bool
    packets: Packets = field(repr=False)


@dataclass(frozen=True, eq=False)
class Timeline:
    """The frames of a video without a look at any: see `VideoInfo`."""

    fps: float
    duration: float
    times: Float64[np.ndarray, " n"]
    packets: Packets


def probe(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> VideoInfo:
    """Describe a video; only its first frame is decoded, for the size and the rotation.

    Raises MediaError of any kind but "no_audio" and "short".
    """
    with open_video(path, limits) as video:
        first: list[VideoFrame] = []
        timeline = index_video(video, lambda packet: first.extend(_first_frame(video.stream, packet)))
        with Faults(video.path, "not_media"):
            return _describe(video, timeline, first[0] if first else None)


def _describe(video: OpenVideo, timeline: Timeline, first: VideoFrame | None) -> VideoInfo:
    packets, stream = timeline.packets, video.stream
    width, height = shown_size(first) if first is not None else (stream.width, stream.height)
    return VideoInfo(
        path=video.path,
        frames=len(packets.order),
        fps=timeline.fps,
        duration=timeline.duration,
        width=width,
        height=height,
        rotation=-first.rotation % 360 if first is not None and turn(first) is not None else 0,
        times=timeline.times,
        keyframes=tuple(np.flatnonzero(packets.keyframe[packets.order]).tolist()),
        codec=codec_name(stream),
        has_audio=bool(video.container.streams.audio),
        packets=packets,
    )


def index_video(video: OpenVideo, look: Callable[[Packet], None] | None = None) -> Timeline:
    """The frames of an open video, which stands at its end afterwards; `look` is shown the first packet.

    Raises MediaError: "no_video" without any frame, "not_media", "too_large", "timed_out".
    """
    with Faults(video.path, "not_media"):
        scan = _scan(video, look)
        if not scan.shown.any():  # also where there are no packets at all
            raise MediaError(video.path, "no_video", "its video stream holds no frames")
        base = video.stream.time_base or Fraction(0)
        rate = float(video.stream.average_rate or 0)
        packets = _arrange(scan, guessed=_guesses_times(video))
        times, duration = _times(packets, scan, base, rate)
        if not 0 < rate <= _HIGHEST_RATE:
            rate = len(times) / duration if duration > 0 else 1.0
        return Timeline(rate, duration, times, packets)


class _Scan:
    """What the packets say, one column a property, in the order in which they are stored."""

    def __init__(self, rows: list[tuple[int | None, int | None, int | None, bool, bool]]) -> None:
        pts, dts, length, keyframe, hidden = zip(*rows, strict=True) if rows else ((),) * 5
        self.pts = _stamps(pts)
        self.dts = dts
        self.length = length
        self.keyframe = np.array(keyframe, bool)
        self.shown = ~np.array(hidden, bool)


def _stamps(values: Sequence[int | None]) -> Int64[np.ndarray, " p"]:
    return np.array([NO_TIME if value is None else value for value in values], np.int64)


def _scan(video: OpenVideo, look: Callable[[Packet], None] | None) -> _Scan:
    rows, most = [], video.limits.max_frames
    kept: list[Packet] = []
    size = 0
    vp8 = codec_name(video.stream) == "vp8"
    for packet in video.container.demux(video.stream):
        video.deadline.check()
        if packet.size == 0:
            continue
        if len(rows) >= most:
            raise MediaError(video.path, "too_large", f"more than {most} frames")
        if look is not None and not rows:
            look(packet)
        # Bit 4 of a VP8 frame's first byte says whether the frame is shown (RFC 6386, 9.1).
        hidden = packet.is_discard or (vp8 and not memoryview(packet)[0] >> 4 & 1)
        rows.append((packet.pts, packet.dts, packet.duration, packet.is_keyframe, hidden))
        size += packet.size
        if size <= _KEEP_BYTES:
            kept.append(packet)
        elif kept:
            kept = []
    video.kept = kept or None
    return _Scan(rows)


def _first_frame(stream: VideoStream, packet: Packet) -> list[VideoFrame]:
    """Decode one packet: its frame carries the rotation and the true size."""
    decoder = stream.codec_context
    try:
        frames = [*decoder.decode(packet), *decoder.decode(None)]
        decoder.flush_buffers()
    except Exception:  # a frame that cannot be decoded is for the reading to report
        return []
    return frames


def _guesses_times(video: OpenVideo) -> bool:
    """Whether presentation times of frames that are stored out of order are FFmpeg's guess: AVI, and
    Matroska in its AVI mode (which alone has a FourCC), store none.
    """
    name, stream = video.container.format.name, video.stream
    no_times = name == "avi" or (name == MATROSKA and stream.codec_tag.strip("\0") != "")
    return no_times and bool(stream.codec_context.has_b_frames)


def _arrange(scan: _Scan, guessed: bool) -> Packets:
    pts, keyframe, shown = scan.pts, scan.keyframe, scan.shown
    (stored,) = shown.nonzero()
    order = stored[pts[stored].argsort(kind="stable")]
    times = pts[order]  # NO_TIME is the least of all numbers
    timed = times[0] != NO_TIME and bool((times[1:] > times[:-1]).all())
    if guessed and (pts[1:] > pts[:-1]).all():
        timed = False  # the guess left them in storage order, which the decoder will not
    if not timed:
        return Packets(pts, keyframe, shown, stored, timed=False)
    start = int(keyframe.argmax())
    if keyframe[start] and (start or times[0] < pts[0]):
        # Nothing before the first keyframe can be decoded, in storage or in presentation.
        shown = shown & (np.arange(len(pts)) >= start) & (pts >= pts[start])
        order = order[shown[order]]
    return Packets(pts, keyframe, shown, order, timed=True)


def _times(packets: Packets, scan: _Scan, base: Fraction, rate: float) -> tuple[Float64[np.ndarray, " n"], float]:
    """Start of each frame in seconds from the first, and the duration of the whole."""
    count = len(packets.order)
    stamps = packets.pts[packets.order]
    if not packets.timed:
        stamps = np.sort(_stamps(scan.dts)[packets.order])
    if base <= 0 or stamps[0] == NO_TIME or (count > 1 and stamps[0] == stamps[-1]):
        step = 1 / rate if 0 < rate <= _HIGHEST_RATE else 1.0
        return np.arange(count) * step, count * step
    times = (stamps - stamps[0]).astype(np.float64) * base.numerator / base.denominator
    last = (scan.length[int(packets.order[-1])] or 0) * base.numerator / base.denominator
    if not last > 0:
        last = times[-1] / (count - 1) if count > 1 else (1 / rate if rate > 0 else 1.0)
    total = float(times[-1]) + last
    return times, total if math.isfinite(total) else float(times[-1])
