"""What BEATs hears: a waveform cut, padded and turned into filter banks as VideoLLaMA 2 does it.

Waveforms are mono in [-1, 1]. Source: VideoLLaMA2, branch audio_visual, mm_utils.py, process_audio_file and
process_audio_from_video.
"""

from fractions import Fraction
from math import ceil

import numpy as np
from jaxtyping import Float, Float32

from vidlmm.media.fbank import FRAME, RATE, SHIFT, fbank, round_to_bfloat16

SECONDS = 30
CLIPS = 8
CLIP_SECONDS = 2
# Filter-bank frames of those thirty seconds, which every sound has.
SOUND_FRAMES = 1 + (SECONDS * RATE - FRAME) // SHIFT


def video_features(waveform: Float32[np.ndarray, "n"] | None) -> Float32[np.ndarray, "2998 128"]:
    """Filter banks of a video's sound at 16 kHz, rounded to bfloat16; None stands for a video without sound.

    Eight clips of two seconds in a row, then silence up to 30 s. Without sound every value is -15.9375.
    """
    heard = np.zeros(0, np.float32) if waveform is None else waveform
    return round_to_bfloat16(fbank(pad(spread_clips(heard), SECONDS * RATE)))


def file_features(
    waveform: Float[np.ndarray, "n"], rate: int, seed: int | None = None
) -> Float32[np.ndarray, "2998 128"]:
    """Filter banks of a sound file at `rate` Hz, rounded to bfloat16.

    Thirty seconds are heard: a longer file from its beginning, or with a `seed` from a place drawn by it (the
    original draws one at random, in use too); a shorter one is padded with silence before it is resampled.

    Raises:
        ValueError: a rate that is not positive.
    """
    if rate < 1:
        raise ValueError(f"a sound of {rate} samples a second cannot be resampled; expected a rate above 0")
    length = SECONDS * rate
    surplus = len(waveform) - length
    start = 0
    if seed is not None and surplus > 0:
        start = int(np.random.default_rng(seed).integers(0, surplus + 1))
    heard = resample_fft(pad(waveform[start : start + length], length), rate, RATE)
    return round_to_bfloat16(fbank(heard))


def clip_ranges(samples: int) -> list[tuple[int, int]]:
    """Where the eight clips of two seconds begin and end, in samples at 16 kHz.

    Clip i starts at i * (duration - 2) / 8, so the end of the sound is not reached; of a sound under two
    seconds all begin at 0. Exact fractions of the duration as a float, as in pytorchvideo 0.1.5: rounding
    would move a border by a sample.
    """
    step = Fraction(max(samples / RATE - CLIP_SECONDS, 0.0)) / CLIPS
    return [(int(i * step * RATE), int((i * step + CLIP_SECONDS) * RATE)) for i in range(CLIPS)]


def spread_clips(waveform: Float32[np.ndarray, "n"]) -> Float32[np.ndarray, "m"]:
    """The eight clips of `clip_ranges` one behind the other; clips past the end of the sound are shorter."""
    return np.concatenate([waveform[start:end] for start, end in clip_ranges(len(waveform))])


def pad(waveform: Float[np.ndarray, "n"], length: int) -> Float[np.ndarray, "m"]:
    """Silence appended up to `length` samples; a longer waveform stays as it is."""
    return np.pad(waveform, (0, max(length - len(waveform), 0)))


def resample_fft(waveform: Float[np.ndarray, "n"], rate: int, new_rate: int) -> Float[np.ndarray, "m"]:
    """The waveform at another rate by cutting or filling its spectrum, of ceil(n * new_rate / rate) samples.

    Equals librosa.resample(res_type="fft"), that is scipy.signal.resample; the dtype is kept.
    """
    count = len(waveform)
    if rate == new_rate or count == 0:
        return waveform
    wanted = ceil(count * (new_rate / rate))
    kept = min(count, wanted)
    spectrum = np.fft.rfft(waveform.astype(np.float64))[: kept // 2 + 1]
    if kept % 2 == 0:
        # The Nyquist bin stands for both signs: halve it when it becomes one of two, double it when two meet.
        spectrum[-1] *= 2.0 if wanted < count else 0.5 if wanted > count else 1.0
    return (np.fft.irfft(spectrum, wanted) * (wanted / count)).astype(waveform.dtype)
