"""Mel filter banks of a waveform as Kaldi computes them, in numpy, and bfloat16 rounding.

The settings are those of BEATs in VideoLLaMA 2 (branch audio_visual, mm_utils.py): 16 kHz, 25 ms frames every
10 ms, 128 bins from 20 Hz to 8 kHz, everything else Kaldi's default without dither.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32, Float64

RATE = 16_000
FRAME = 400
SHIFT = 160
BINS = 128
_FFT = 512
_LOWEST_HZ, _HIGHEST_HZ = 20.0, 8000.0
_PREEMPHASIS = 0.97
_FLOOR = float(np.finfo(np.float32).eps)


def fbank(waveform: Float[np.ndarray, "n"]) -> Float32[np.ndarray, "T 128"]:
    """Log mel energies of a mono waveform in [-1, 1] at 16 kHz; T = 1 + (n - 400) // 160.

    The waveform is scaled to 16-bit range first. Computed in float64 throughout: the original's float32 differs
    by up to some 1e-3 in weak bins.

    Raises:
        ValueError: fewer than the 400 samples of one frame.
    """
    if len(waveform) < FRAME:
        raise ValueError(f"a waveform of {len(waveform)} samples is shorter than a frame of {FRAME}; pad it first")
    samples = waveform.astype(np.float64) * 2.0**15
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::SHIFT]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    windowed = (frames - _PREEMPHASIS * before) * _povey_window()
    power = np.abs(np.fft.rfft(windowed, _FFT, axis=1)) ** 2
    # The last of the 257 bins weighs nothing.
    energies = power[:, : _FFT // 2] @ _mel_weights()
    return np.log(np.maximum(energies, _FLOOR)).astype(np.float32)


def round_to_bfloat16(values: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """The nearest bfloat16 (ties to even) of finite values, still stored as float32."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    upper = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) & np.uint32(0xFFFF0000)
    return upper.view(np.float32).reshape(values.shape)


@lru_cache(maxsize=1)
def _povey_window() -> Float64[np.ndarray, "400"]:
    return np.hanning(FRAME) ** 0.85


@lru_cache(maxsize=1)
def _mel_weights() -> Float64[np.ndarray, "256 128"]:
    """Triangles of equal width on the mel scale, one column a bin."""
    lowest, highest = _mel(np.array([_LOWEST_HZ, _HIGHEST_HZ]))
    width = (highest - lowest) / (BINS + 1)
    left = lowest + width * np.arange(BINS)
    places = _mel(np.arange(_FFT // 2) * (RATE / _FFT))[:, None]
    rising = (places - left) / width
    falling = (left + 2 * width - places) / width
    return np.maximum(np.minimum(rising, falling), 0.0)


def _mel(hertz: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    return 1127.0 * np.log(1.0 + hertz / 700.0)
