"""The sound of a file as a waveform, whatever its rate, layout and sample format."""

import os
from collections.abc import Iterator

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.error import InvalidDataError, PatchWelcomeError
from av.stream import Discard
from jaxtyping import Float32, Float64, Int16

from vidlmm.media.errors import MediaError
from vidlmm.media.fbank import RATE
from vidlmm.media.limits import Limits
from vidlmm.media.open import Faults, OpenMedia, open_media
from vidlmm.media.sampling import Window, tidy
from vidlmm.media.waveforms import SECONDS, file_features, video_features

# Besides these every kind of PCM is read.
AUDIO_CODECS = frozenset(
    ("aac", "ac3", "alac", "eac3", "flac", "mp1", "mp2", "mp3", "opus", "vorbis", "wmav1", "wmav2")
)
# Samples held at once: two hours at 16 kHz, 50 minutes of a sound file at 44.1 kHz; 1 GB as float64.
MAX_SAMPLES = 1 << 27
# A forged rate would make thirty seconds, or one packet, arbitrarily long.
RATES_HZ = (1_000, 768_000)
# A stream that decodes to less than this share of its declared length is short.
_LEAST_SHARE, _SLACK_SECONDS = 0.95, 0.5

_LIMITS = Limits()
_FULL_SCALE = {"s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63, "flt": 1.0, "dbl": 1.0}


def waveform(path: str | os.PathLike[str], limits: Limits = _LIMITS) -> Float32[np.ndarray, "n"]:
    """The sound of a video or sound file: mono, 16 kHz, in [-1, 1).

    Channels are mixed, the rate is changed and samples are rounded to 16 bits by FFmpeg's resampler, as
    `ffmpeg -ac 1 -ar 16000 -acodec pcm_s16le` does it for VideoLLaMA 2 (mm_utils.py, load_audio_from_video).

    Raises:
        MediaError: "no_audio", "short", "too_large" above MAX_SAMPLES, and what opening a file can give.
    """
    with open_media(path, limits) as media:
        stream = best_audio(media)
        pieces: list[np.ndarray] = []
        count = 0
        with Faults(media.path, "not_media"):
            for piece in _mono(_frames(media, stream)):
                pieces.append(piece)
                count += len(piece)
                _check_length(media, count)
        _check_whole(media, stream, count / RATE)
        return np.concatenate(pieces).astype(np.float32) / np.float32(32768)


def first_channel(
    path: str | os.PathLike[str], limits: Limits = _LIMITS, seconds: float | None = None
) -> tuple[Float64[np.ndarray, "n"], int]:
    """The first channel of a sound file in [-1, 1] at the file's own rate, and that rate in Hz.

    VideoLLaMA 2 reads sound files so (mm_utils.py, process_audio_file): nothing mixed, nothing rounded.
    With `seconds` reading stops there.

    Raises:
        MediaError: as `waveform`; "not_media" if the rate changes within the file.
    """
    with open_media(path, limits) as media:
        stream = best_audio(media)
        pieces: list[np.ndarray] = []
        rates: set[int] = set()
        count = 0
        with Faults(media.path, "not_media"):
            for frame in _frames(media, stream):
                pieces.append(_first_channel(frame))
                rates.add(frame.sample_rate)
                count += frame.samples
                _check_length(media, count)
                if seconds is not None and count >= seconds * frame.sample_rate:
                    break
        if len(rates) > 1:
            raise MediaError(media.path, "not_media", f"the sample rate changes within the file: {sorted(rates)}")
        rate = rates.pop() if rates else RATE
        if seconds is None or count < seconds * rate:
            _check_whole(media, stream, count / rate)
        samples = np.concatenate(pieces)
        return samples if seconds is None else samples[: int(seconds * rate)], rate


def sound_of_video(
    path: str | os.PathLike[str], limits: Limits = _LIMITS, window: Window | None = None
) -> Float32[np.ndarray, "2998 128"]:
    """What BEATs hears of a video, rounded to bfloat16; a video without a sound stream is silent.

    Args:
        window: (start, end) in seconds that are heard, None for an open side; VideoLLaMA 2 itself hears all.

    Raises:
        MediaError: as `waveform`, but for "no_audio".
    """
    try:
        heard = waveform(path, limits)
    except MediaError as error:
        if error.kind != "no_audio":
            raise
        heard = None
    if heard is not None and window is not None:
        first, last = (None if side is None else round(side * RATE) for side in tidy(window))
        heard = heard[first:last]
    return video_features(heard)


def sound_of_file(
    path: str | os.PathLike[str], limits: Limits = _LIMITS, seed: int | None = None
) -> Float32[np.ndarray, "2998 128"]:
    """What BEATs hears of a sound file, rounded to bfloat16: thirty seconds of its first channel.

    Of a longer file the beginning, or a place drawn by `seed`.

    Raises:
        MediaError: as `first_channel`.
    """
    samples, rate = first_channel(path, limits, seconds=float(SECONDS) if seed is None else None)
    return file_features(samples, rate, seed)


def best_audio(media: OpenMedia) -> AudioStream:
    """The sound stream that FFmpeg prefers; all other streams are dropped.

    Raises:
        MediaError: "no_audio", or "not_media" for a codec that is not read here.
    """
    stream = media.container.streams.best("audio")
    if not isinstance(stream, AudioStream) or stream.codec_context is None:
        raise MediaError(media.path, "no_audio", "there is no sound stream")
    name = stream.codec_context.codec.canonical_name
    if name not in AUDIO_CODECS and not name.startswith("pcm_"):
        raise MediaError(media.path, "not_media", f"its sound codec {name!r} is not one that is read")
    stream.codec_context.thread_count = media.limits.threads
    for other in media.container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    return stream


def _frames(media: OpenMedia, stream: AudioStream) -> Iterator[AudioFrame]:
    """Decoded frames; a packet that does not decode is left out, as FFmpeg does (see `_check_whole`)."""
    for packet in media.container.demux(stream):
        media.deadline.check()
        try:
            frames = packet.decode()
        except (InvalidDataError, PatchWelcomeError):
            continue
        for frame in frames:
            if not isinstance(frame, AudioFrame) or not frame.samples:
                continue
            if not RATES_HZ[0] <= frame.sample_rate <= RATES_HZ[1]:
                detail = f"{frame.sample_rate} samples a second; {RATES_HZ[0]} to {RATES_HZ[1]} are read"
                raise MediaError(media.path, "too_large", detail)
            yield frame


def _mono(frames: Iterator[AudioFrame]) -> Iterator[Int16[np.ndarray, "n"]]:
    """Frames as 16-bit mono at 16 kHz; a new resampler where the stream changes its shape."""
    resampler: AudioResampler | None = None
    shape: tuple[str, str, int] | None = None
    for frame in frames:
        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        if resampler is None or now != shape:
            if resampler is not None:
                yield from _samples(resampler.resample(None))
            resampler, shape = AudioResampler(format="s16", layout="mono", rate=RATE), now
        yield from _samples(resampler.resample(frame))
    if resampler is not None:
        yield from _samples(resampler.resample(None))


def _samples(frames: list[AudioFrame]) -> Iterator[Int16[np.ndarray, "n"]]:
    for frame in frames:
        yield frame.to_ndarray().reshape(-1)


def _first_channel(frame: AudioFrame) -> Float64[np.ndarray, "n"]:
    values = frame.to_ndarray()
    samples = values[0] if frame.format.is_planar else values.reshape(frame.samples, -1)[:, 0]
    kind = frame.format.packed.name
    if kind == "u8":
        return (samples.astype(np.float64) - 128.0) / 128.0
    return samples.astype(np.float64) / _FULL_SCALE[kind]


def _check_length(media: OpenMedia, samples: int) -> None:
    if samples > MAX_SAMPLES:
        raise MediaError(media.path, "too_large", f"more than {MAX_SAMPLES} samples of sound; cut it first")


def _check_whole(media: OpenMedia, stream: AudioStream, seconds: float) -> None:
    declared = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    if not seconds:
        raise MediaError(media.path, "short", f"none of its {declared:.2f} s of sound could be decoded")
    if seconds < _LEAST_SHARE * declared - _SLACK_SECONDS:
        raise MediaError(media.path, "short", f"decoded {seconds:.2f} of {declared:.2f} s of sound")
