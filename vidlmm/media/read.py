"""Wanted frames of a video, each exactly the frame that decoding from the first packet would give.

The way to them, stated here because it decides what is returned:

1. The packets' index says which stretches have to be decoded (`plan.py`); between them packets are
   skipped (`walk.py`).
2. Inside a stretch, frames that nobody wants and no other frame refers to are not decoded.
3. A frame counts only if its presentation time is a wanted one and the decoder does not call it corrupt.
   (What a decoder conceals without a word, as every player does, is not noticed.)
4. If frames are missing then, everything is decoded once more from the first packet with nothing left
   out; damaged packets cost the frames up to the next keyframe. What is missing after that cannot be
   decoded, and the call says so.

Videos without usable times are decoded from the first packet at once, and their frames are counted.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from PIL import Image

from vidlmm.media.errors import MediaError
from vidlmm.media.index import Packets, VideoInfo, index_video
from vidlmm.media.limits import DEFAULT_LIMITS, Limits
from vidlmm.media.open import Faults, OpenVideo, codec_name, open_video
from vidlmm.media.orientation import Converter
from vidlmm.media.plan import Run, plan_runs
from vidlmm.media.walk import Walk

Transform = Callable[[Image.Image], np.ndarray]
Found = Iterator[tuple[int, VideoFrame]]

_TOGETHER = 1 << 18  # pixels of decoded pictures that may wait to be transformed

# Decoders that know from a frame's header that no other refers to it, and then drop it if told so for
# this packet. (The AV1 decoder can only be told once for all.)
_DROPS_FRAMES = frozenset({"h264", "hevc", "vp8", "mpeg1video", "mpeg2video", "mpeg4"})


def read_frames(
    path: str | os.PathLike[str],
    indices: Sequence[int],
    *,
    transform: Transform | None = None,
    info: VideoInfo | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> list[np.ndarray]:
    """Frames of a video, in the order of `indices`.

    Args:
        path: a local file.
        indices: numbers of frames in presentation order; one that stands there twice is decoded once.
        transform: what becomes of a frame (an upright RGB picture) at once, so that memory holds only
            results; without it the frame itself, uint8 [H, W, 3].
        info: what `probe` gave for this file, to save a second look at its packets.
        limits: caps for this call.

    Raises:
        IndexError: an index outside the video.
        MediaError: any kind but "no_audio"; "short" tells how many of the frames could be decoded.
    """
    with open_video(path, limits) as video:
        if info is not None:
            return read_open(video, info.packets, indices, transform, at_start=True)
        return read_open(video, index_video(video).packets, indices, transform, at_start=False)


def read_open(
    video: OpenVideo,
    packets: Packets,
    indices: Sequence[int],
    transform: Transform | None = None,
    *,
    at_start: bool,
) -> list[np.ndarray]:
    """`read_frames` on an open video; `at_start` says that no packet has been taken from it."""
    wanted = _checked(indices, len(packets.order), video)
    walk = Walk(video, packets, at_start)
    convert = Converter()
    results: dict[int, np.ndarray] = {}
    for way in (_short_way, _whole_way) if packets.timed else (_counted_way,):
        for some in _together(_pictures(way(walk, wanted - results.keys()), convert, video.path)):
            for number, image in some:
                results[number] = np.asarray(image) if transform is None else transform(image)
        if len(results) == len(wanted):
            return [results[int(i)] for i in indices]
    raise MediaError(video.path, "short", f"decoded {len(results)} of {len(wanted)} frames")


def _pictures(found: Found, convert: Converter, path: str) -> Iterator[tuple[int, Image.Image]]:
    for number, frame in found:
        with Faults(path, "short"):
            image = convert(frame)
        yield number, image


def _together(pictures: Iterator[tuple[int, Image.Image]]) -> Iterator[list[tuple[int, Image.Image]]]:
    """Small pictures several at a time: a decoder and a resize that take turns lose what the caches hold."""
    some, pixels = [], 0
    for number, image in pictures:
        some.append((number, image))
        pixels += image.width * image.height
        if pixels >= _TOGETHER:
            yield some
            some, pixels = [], 0
    yield some


def _checked(indices: Sequence[int], count: int, video: OpenVideo) -> set[int]:
    wanted = {int(i) for i in indices}
    if wanted and (min(wanted) < 0 or max(wanted) >= count):
        raise IndexError(
            f"{video.path}: frames {min(wanted)} to {max(wanted)} were asked of a video of {count}; "
            f"expected 0 to {count - 1}"
        )
    most = video.limits.max_wanted
    if len(wanted) > most:
        raise MediaError(video.path, "too_large", f"{len(wanted)} frames were asked; at most {most} at once")
    return wanted


def _short_way(walk: Walk, wanted: set[int]) -> Found:
    for run in plan_runs(walk.packets, wanted):
        walk.go_to(run.start)
        yield from _decode_run(walk, run)


def _decode_run(walk: Walk, run: Run) -> Found:
    """The targets of a run; those behind a damaged packet are left out.

    Containers lie about keyframes. So a run that starts inside the video counts only from where the
    decoder, too, calls the first frame one; none of its targets comes before that frame.
    """
    trusted = run.start == 0
    start_time = int(walk.packets.pts[run.start])
    for frame in _run_frames(walk, run):
        time = frame.pts
        trusted = trusted or (time == start_time and frame.key_frame)
        if trusted and time in run.targets and not frame.is_corrupt:
            yield run.targets[time], frame


def _run_frames(walk: Walk, run: Run) -> Iterator[VideoFrame]:
    """What the decoder gives for the packets of a run, up to a damaged one."""
    decoder = walk.video.stream.codec_context
    can_drop, dropping = codec_name(walk.video.stream) in _DROPS_FRAMES, None
    while walk.next <= run.stop and (packet := walk.take()) is not None:
        unwanted = packet.pts not in run.targets
        if can_drop and dropping != unwanted:
            dropping = unwanted
            decoder.skip_frame = "NONREF" if dropping else "DEFAULT"
        frames = _decode(walk, packet)
        if frames is None:
            break
        yield from frames
    # The last target needs no later packet: let the decoder give what it holds back for reordering.
    yield from _decode(walk, None) or []
    decoder.flush_buffers()


def _whole_way(walk: Walk, wanted: set[int]) -> Found:
    packets = walk.packets
    targets = {int(packets.pts[packets.order[number]]): number for number in wanted}
    walk.restart()
    damaged = False
    while targets and (packet := walk.take()) is not None:
        if damaged and not packet.is_keyframe:
            continue
        frames = _decode(walk, packet)
        damaged = frames is None
        if damaged:
            walk.video.stream.codec_context.flush_buffers()
        for number, frame in _wanted(frames or [], targets):
            yield number, frame
            del targets[int(packets.pts[packets.order[number]])]
    yield from _wanted(_decode(walk, None) or [], targets)


def _counted_way(walk: Walk, wanted: set[int]) -> Found:
    walk.restart()
    count, last = 0, max(wanted, default=-1)
    packet = walk.take()
    while count <= last:
        frames = _decode(walk, packet)
        if frames is None:
            return  # from here on no frame's number is known
        for frame in frames:
            if count in wanted:
                yield count, frame
            count += 1
        if packet is None:
            return
        packet = walk.take()


def _decode(walk: Walk, packet: Packet | None) -> list[VideoFrame] | None:
    """Frames that come out after a packet (None: all that are left); None where the packet is damaged."""
    try:
        return walk.video.stream.codec_context.decode(packet)
    except MemoryError as error:
        raise MediaError(walk.video.path, "too_large", "not enough memory to decode it") from error
    except Exception:  # PyAV raises a dozen kinds for damaged data
        return None


def _wanted(frames: list[VideoFrame], targets: Mapping[int, int]) -> Found:
    for frame in frames:
        number = None if frame.pts is None else targets.get(frame.pts)
        if number is not None and not frame.is_corrupt:
            yield number, frame
