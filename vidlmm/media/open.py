"""Opening a media file: which protocols, formats and codecs are allowed in, and which stream is meant.

FFmpeg opens by content, not by name: a playlist called `clip.mp4` opens the files it lists. Hence the
white lists, which every reader of the package goes through.
"""

import os
import stat
from dataclasses import dataclass
from typing import Any, TypeVar

import av
import av.container
import av.error
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from vidlmm.media.errors import Kind, MediaError
from vidlmm.media.limits import DEFAULT_LIMITS, Deadline, Limits
from vidlmm.media.outline import outline_of

PROTOCOLS = "file"
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,flv,gif,asf,mpeg,ogg,wav,flac,mp3"
# Decoders with years of hostile input behind them; JPEG 2000, for one, is not among them.
VIDEO_CODECS = frozenset(
    ["h264", "hevc", "vp8", "vp9", "av1", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v1", "msmpeg4v2"]
    + ["msmpeg4v3", "h263", "flv1", "wmv1", "wmv2", "wmv3", "vc1", "mjpeg", "gif", "theora"]
)
# Titles in another encoding are no reason to refuse a film. PyAV 19 has the option no more.
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}

Media = TypeVar("Media", bound="OpenMedia")


@dataclass
class OpenMedia:
    """An open container with its limits; `with` closes it. `path` is the caller's name for it."""

    path: str
    container: av.container.InputContainer
    limits: Limits
    deadline: Deadline

    def __enter__(self: Media) -> Media:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()


@dataclass
class OpenVideo(OpenMedia):
    """An open container and the one video stream that is read from it.

    kept: its packets, where they have been read and are few enough to be held in memory.
    """

    stream: VideoStream
    kept: list[Packet] | None = None

    def restart(self) -> None:
        """Go back to the first packet with a fresh container; works where a format cannot seek."""
        self.container.close()
        self.kept = None
        self.container = _open(self.path, self.limits, self.deadline)
        self.stream = _best_video(self.path, self.container, self.limits)


@dataclass(frozen=True, slots=True)
class Faults:
    """`with Faults(path, otherwise):` turns whatever PyAV raises into a MediaError, see `media_error`."""

    path: str
    otherwise: Kind

    def __enter__(self) -> None:
        """Nothing has to be prepared."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, MediaError):
            raise media_error(self.path, error, self.otherwise) from error


def media_error(path: str, error: Exception, otherwise: Kind) -> MediaError:
    """What PyAV's `error` means for the file; `otherwise` is the kind where the error tells none."""
    return MediaError(path, _kind(error, otherwise), _words(error))


def _kind(error: Exception, otherwise: Kind) -> Kind:
    if isinstance(error, av.error.ExitError):  # the interrupt callback: its timeout ran out
        return "timed_out"
    if isinstance(error, MemoryError):
        return "too_large"
    if isinstance(error, FileNotFoundError):
        return "missing"
    return otherwise


def _words(error: Exception) -> str:
    """FFmpeg's own words for it, one line without decoder logs; others only say that it is damaged."""
    if isinstance(error, av.error.FFmpegError) and error.strerror:
        return " ".join(error.strerror.split())
    return f"its data is damaged ({type(error).__name__})"


def open_media(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> OpenMedia:
    """Open a local media file behind the white lists.

    Raises MediaError: "missing", "truncated", "not_media", "timed_out", "too_large".
    """
    name = os.fspath(path)
    deadline = Deadline(name, limits.seconds)
    return OpenMedia(name, _open(name, limits, deadline), limits, deadline)


def open_video(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> OpenVideo:
    """Open a local file for its video: the largest stream, and of several such the one FFmpeg prefers.

    Cover art is no video. All other streams are dropped where they are read.

    Raises MediaError: as `open_media`, and "no_video".
    """
    media = open_media(path, limits)
    try:
        stream = _best_video(media.path, media.container, limits)
    except BaseException:
        media.container.close()
        raise
    return OpenVideo(media.path, media.container, limits, media.deadline, stream)


def _open(name: str, limits: Limits, deadline: Deadline) -> av.container.InputContainer:
    location = regular_file(name)
    with Faults(name, "not_media"):
        outline = outline_of(location)
    if outline.lost is not None:
        raise MediaError(name, "truncated", outline.lost)
    options = {
        "protocol_whitelist": PROTOCOLS,
        "format_whitelist": FORMATS,
        "max_pixels": str(limits.max_pixels),
    }
    try:
        with Faults(name, "not_media"):
            # An absolute path is never taken for a protocol; titles in old encodings do no harm.
            return av.open(location, format=outline.demuxer, options=options, timeout=limits.seconds, **_METADATA)
    except MediaError:
        deadline.check()  # a demuxer that is interrupted may call the data invalid
        raise


def regular_file(name: str) -> str:
    """The absolute path, after refusing what would block or surprise: folders, pipes, devices."""
    location = os.path.abspath(name)
    try:
        mode = os.stat(location).st_mode
    except (OSError, ValueError):
        raise MediaError(name, "missing", "there is no such file") from None
    if not stat.S_ISREG(mode):
        raise MediaError(name, "not_media", "this is not a regular file")
    if not os.access(location, os.R_OK):
        raise MediaError(name, "missing", "the file may not be read (permissions)")
    return location


def _best_video(path: str, container: av.container.InputContainer, limits: Limits) -> VideoStream:
    streams = [
        s
        for s in container.streams.video
        if s.codec_context is not None and not s.disposition & Disposition.attached_pic
    ]
    if not streams:
        raise MediaError(path, "no_video", "there is no video stream")
    allowed = [s for s in streams if codec_name(s) in VIDEO_CODECS]
    if not allowed:
        raise MediaError(path, "not_media", f"its video codec {codec_name(streams[0])!r} is not one that is read")
    stream = allowed[0]
    if len(allowed) > 1:
        preferred = container.streams.best("video")
        stream = max(allowed, key=lambda s: (s.width * s.height, s is preferred))
    if stream.width * stream.height > limits.max_pixels:
        size = f"{stream.width} x {stream.height}"
        raise MediaError(path, "too_large", f"frames of {size} pixels; at most {limits.max_pixels} pixels are read")
    with Faults(path, "not_media"):
        stream.codec_context.thread_count = limits.threads
        stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
    return stream


def codec_name(stream: VideoStream) -> str:
    """The codec's name, whichever decoder reads it (AV1 has several)."""
    return stream.codec_context.codec.canonical_name
