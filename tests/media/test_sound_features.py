"""Filter banks and what leads to them equal the original's."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from tests.goldens.seeded import seeded_uniform
from tests.media.golden_case import Case
from vidlmm.media.fbank import fbank, round_to_bfloat16
from vidlmm.media.waveforms import (
    clip_ranges,
    file_features,
    pad,
    resample_fft,
    spread_clips,
    video_features,
)


def buzz(name: str, samples: int) -> np.ndarray:
    """Two square waves that come and go under noise, 16-bit: the inputs of case av_audio_preprocess."""
    at = np.arange(samples)
    low = 6000.0 * np.where((at // 36) % 2 == 0, 1.0, -1.0) * ((at // 5200) % 3 != 0)
    high = 3000.0 * np.where((at // 5) % 2 == 0, 1.0, -1.0) * ((at // 2677) % 2 == 0)
    return np.floor(low + high + 900.0 * seeded_uniform(1, name, (samples,))).astype(np.int16)


def two_seconds() -> np.ndarray:
    """The waveform of case beats_encoder_2s."""
    at = np.arange(32000)
    low = 0.25 * np.where((at // 36) % 2 == 0, 1.0, -1.0) * ((at // 4000) % 3 != 0)
    high = 0.125 * np.where((at // 7) % 2 == 0, 1.0, -1.0) * ((at // 2500) % 2 == 0)
    return (low + high + 0.0625 * seeded_uniform(1, "waveform", (32000,))).astype(np.float32)


def assert_bfloat16_close(case: Case, name: str, full: np.ndarray, strays: int) -> None:
    """Equal, but for at most `strays` bins that fell to the other side: one bfloat16 step there."""
    part = full[:: int(case.text["outputs"][name]["slice"].strip("[], :"))]
    stored = case.arrays[name]
    apart = part != stored
    assert apart.sum() <= strays, name
    step = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(stored), 1e-30))) - 7)
    assert np.all(np.abs(part - stored)[apart] <= step[apart]), name


def test_fbank_of_two_seconds(goldens: Path) -> None:
    case = Case(goldens / "videollama2/beats_encoder_2s")
    banks = fbank(two_seconds())
    assert case.difference("fbank_from_waveform", banks) <= 2e-3
    part = round_to_bfloat16(banks)[::11]
    assert (part != case.arrays["fbank_from_waveform_bfloat16"]).sum() <= 2
    silent = fbank(np.zeros(400, np.float32))[0]
    assert np.abs(silent - case.arrays["fbank_of_silence_first_frame"]).max() <= 1e-5


@pytest.mark.parametrize(("name", "samples"), [("long", 104160), ("short", 20800)])
def test_the_sound_of_a_video(goldens: Path, name: str, samples: int) -> None:
    case = Case(goldens / "videollama2/av_audio_preprocess")
    expected = case.text["expected"][name]
    waveform = buzz(name, samples).astype(np.float32) / 32768.0
    assert [list(span) for span in clip_ranges(samples)] == expected["clip_sample_ranges"]
    banks = fbank(pad(spread_clips(waveform), 480_000))
    assert [1, *banks.shape] == expected["fbank_shape"]
    assert case.difference(f"{name}_fbank_float32", banks) <= 5e-3
    features = video_features(waveform)
    assert_bfloat16_close(case, f"{name}_fbank_bfloat16", features, strays=3)
    assert int((features == features[-1]).all(axis=1).sum()) == expected["silent_frames"]


def test_a_sound_file(goldens: Path) -> None:
    case = Case(goldens / "videollama2/av_audio_preprocess")
    waveform = buzz("file", 35200) / 32768.0
    # The original's mel triangles are float32 even where the waveform is float64.
    assert case.difference("file_fbank_float32", fbank(pad(waveform, 480_000))) <= 2e-4
    features = file_features(waveform, 16_000)
    assert_bfloat16_close(case, "file_fbank_bfloat16", features, strays=0)
    assert int((features == features[-1]).all(axis=1).sum()) == case.text["expected"]["file"]["silent_frames"]


def test_a_video_without_sound_is_heard_as_silence(goldens: Path) -> None:
    expected = Case(goldens / "videollama2/av_audio_preprocess").text["expected"]["missing"]
    features = video_features(None)
    assert [1, *features.shape] == expected["fbank_shape"]
    assert np.all(features == expected["value"])


def test_a_long_file_is_heard_from_its_beginning_or_from_a_seeded_place() -> None:
    waveform = seeded_uniform(1, "long file", (16_000 * 33,))
    assert np.array_equal(file_features(waveform, 16_000), file_features(waveform[:480_000], 16_000))
    drawn = file_features(waveform, 16_000, seed=5)
    assert np.array_equal(drawn, file_features(waveform, 16_000, seed=5))
    assert not np.array_equal(drawn, file_features(waveform, 16_000))
    with pytest.raises(ValueError, match="rate above 0"):
        file_features(waveform, 0)


def test_less_than_a_frame_of_sound_is_an_error() -> None:
    with pytest.raises(ValueError, match="399 samples"):
        fbank(np.zeros(399, np.float32))


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 300),
    rates=st.tuples(*[st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000])] * 2),
)
def test_resampling_equals_scipy(samples: int, rates: tuple[int, int]) -> None:
    waveform = seeded_uniform(samples, "resample", (samples,))
    wanted = int(np.ceil(samples * (rates[1] / rates[0])))
    expected = signal.resample(waveform, wanted) if rates[0] != rates[1] else waveform
    assert np.abs(resample_fft(waveform, *rates) - expected).max() <= 1e-12


@settings(max_examples=200, deadline=None)
@given(value=st.floats(-(2.0**99), 2.0**99, width=32))
def test_rounding_to_bfloat16_takes_the_nearest(value: float) -> None:
    rounded = float(round_to_bfloat16(np.array([value], np.float32))[0])
    bits = np.array([rounded], np.float32).view(np.uint32)
    assert bits[0] & 0xFFFF == 0
    lower, upper = (bits - np.uint32(0x10000)).view(np.float32)[0], (bits + np.uint32(0x10000)).view(np.float32)[0]
    if rounded != 0:
        assert abs(value - rounded) <= min(abs(value - float(lower)), abs(value - float(upper)))


def test_rounding_to_bfloat16_breaks_ties_to_even() -> None:
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8], np.float32)
    assert round_to_bfloat16(ties).tolist() == [1.0, 1 + 2**-6, -1.0]


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(0, 2_000_000))
def test_clips_are_eight_and_lie_in_order(samples: int) -> None:
    ranges = clip_ranges(samples)
    assert len(ranges) == 8
    assert ranges == sorted(ranges)
    assert all(end - start == 32_000 for start, end in ranges)
    assert ranges[0][0] == 0
    assert samples < 32_000 or ranges[-1][1] <= samples
