"""Sound comes out of files of any rate, layout and sample format."""

import wave
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidlmm.media.errors import MediaError
from vidlmm.media.sound import _mono, first_channel, sound_of_file, sound_of_video, waveform
from vidlmm.media.waveforms import file_features


def tone(rate: int, seconds: float, hertz: float, loudness: float = 0.5) -> np.ndarray:
    return loudness * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def write_wav(path: Path, channels: list[np.ndarray], rate: int, width: int = 2) -> Path:
    """A WAV file of `width` bytes a sample."""
    samples = np.stack(channels, axis=1)
    if width == 1:
        data = (samples * 128 + 128).astype(np.uint8).tobytes()
    else:
        whole = np.round(samples * 2.0 ** (8 * width - 1)).astype("<i8")
        data = whole.view(np.uint8).reshape(*whole.shape, 8)[..., :width].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)
    return path


def write_video(path: Path, sound: np.ndarray | None, rate: int = 44_100) -> Path:
    """An MP4 of eight grey frames, with an AAC track if there is sound."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=8)
        video.width = video.height = 32
        audio = None if sound is None else container.add_stream("aac", rate=rate, layout="mono")
        for _ in range(8):
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), "rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            frame = AudioFrame.from_ndarray(sound.astype(np.float32)[None], "fltp", "mono")
            frame.sample_rate = rate
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def loudest_hertz(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples))
    return float(np.argmax(spectrum) * rate / len(samples))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_any_rate_and_sample_format(tmp_path: Path, rate: int, width: int) -> None:
    left, right = tone(rate, 0.5, 440.0), tone(rate, 0.5, 880.0, 0.25)
    path = write_wav(tmp_path / "two.wav", [left, right], rate, width)
    heard = waveform(path)
    assert abs(len(heard) - 8_000) <= 32
    mixed = np.interp(np.arange(len(heard)) / 16_000, np.arange(len(left)) / rate, (left + right) / 2)
    inner = slice(200, 7_700)
    assert np.abs(heard[inner] - mixed[inner]).max() < (0.02 if width == 1 else 0.012)
    first, own_rate = first_channel(path)
    assert own_rate == rate
    step = 2.0 ** (1 - 8 * width)
    assert len(first) == len(left)
    assert np.abs(first - left).max() <= (step if width == 1 else step / 2)


def test_sound_at_16_khz_mono_16_bit_passes_untouched(tmp_path: Path) -> None:
    samples = np.round(tone(16_000, 1.0, 300.0) * 32768) / 32768
    heard = waveform(write_wav(tmp_path / "same.wav", [samples], 16_000))
    assert np.array_equal(heard, samples.astype(np.float32))


def test_the_sound_track_of_a_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "tone.mp4", tone(44_100, 1.0, 440.0))
    heard = waveform(path)
    assert abs(len(heard) / 16_000 - 1.0) < 0.1
    assert abs(loudest_hertz(heard, 16_000) - 440.0) < 3
    assert sound_of_video(path).shape == (2998, 128)


def test_a_video_without_sound_is_silent_and_has_no_waveform(tmp_path: Path) -> None:
    path = write_video(tmp_path / "mute.mp4", None)
    with pytest.raises(MediaError, match="no_audio"):
        waveform(path)
    assert np.all(sound_of_video(path) == -15.9375)


def test_other_faults_are_not_taken_for_silence(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("this is no video" * 100)
    with pytest.raises(MediaError, match="not_media"):
        sound_of_video(text)
    with pytest.raises(MediaError, match="missing"):
        sound_of_video(tmp_path / "nowhere.mp4")


def test_a_sound_file_is_heard_for_thirty_seconds(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 8_000 * 32)
    path = write_wav(tmp_path / "long.wav", [noise], 8_000)
    samples, rate = first_channel(path)
    assert len(samples) == 8_000 * 32
    assert len(first_channel(path, seconds=1.5)[0]) == 12_000
    assert np.array_equal(sound_of_file(path), file_features(samples, rate))
    assert np.array_equal(sound_of_file(path, seed=3), file_features(samples, rate, seed=3))


def test_forged_rates_and_endless_sound_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forged = write_wav(tmp_path / "fast.wav", [tone(16_000, 0.1, 440.0)], 2_000_000_000)
    for read in (waveform, first_channel):
        with pytest.raises(MediaError) as caught:
            read(forged)
        assert caught.value.kind in ("too_large", "not_media")
    monkeypatch.setattr("vidlmm.media.sound.MAX_SAMPLES", 5_000)
    path = write_wav(tmp_path / "endless.wav", [tone(16_000, 1.0, 440.0)], 16_000)
    for read in (waveform, first_channel):
        with pytest.raises(MediaError, match="too_large"):
            read(path)


def test_a_stream_that_changes_its_rate_goes_on() -> None:
    def frame(rate: int) -> AudioFrame:
        made = AudioFrame.from_ndarray(tone(rate, 0.5, 440.0).astype(np.float32)[None], "fltp", "mono")
        made.sample_rate = rate
        return made

    heard = np.concatenate(list(_mono(iter([frame(44_100), frame(22_050), frame(16_000)]))))
    assert abs(len(heard) / 16_000 - 1.5) < 0.02
    assert abs(loudest_hertz(heard, 16_000) - 440.0) < 3


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_flipped_bytes_answer_or_fail_cleanly(tmp_path: Path, seed: int) -> None:
    source = tmp_path / "tone.mp4"
    if not source.exists():
        write_video(source, tone(44_100, 0.5, 440.0))
    data = np.frombuffer(source.read_bytes(), np.uint8).copy()
    rng = np.random.default_rng(seed)
    data[rng.integers(0, len(data), 12)] = rng.integers(0, 256, 12)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data.tobytes())
    try:
        heard = waveform(broken)
    except MediaError:
        return
    assert np.all(np.abs(heard) <= 1)


def test_real_files(shared: Path) -> None:
    seconds = {
        "jobs.mp4": 17.49,
        "lb_0.wav": 10.24,
        "nasa_13013.mp4": 13.06,
        "flipping_a_pancake.mkv": 10.37,
        "sine_mono_s32_44100.wav": 4.0,
    }
    for name, expected in seconds.items():
        assert abs(len(waveform(shared / "media" / name)) / 16_000 - expected) < 0.05, name
    for name in ("h265_video.mp4", "animated.gif", "testsrc2_mpeg4.avi"):
        with pytest.raises(MediaError, match="no_audio"):
            waveform(shared / "media" / name)
