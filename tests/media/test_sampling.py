"""Frame choice: the published rules, their time texts, and what holds for all of them."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.media.golden_case import Case
from vidlmm.media.sampling import (
    FrameChoice,
    choose_folder_frames,
    choose_frames,
    linspace,
    pick,
    segment_centres,
    segment_centres_old,
    segment_fps,
    time_text,
)
from vidlmm.spec import FrameSpec

LLAVA_VIDEO = FrameSpec(count=64)
LLAVA_VIDEO_BY_RATE = FrameSpec(count=64, force_sample=False)
VIDEOLLAMA2 = FrameSpec(rule="segment_centres", count=8, folder_fps=3.0, time_text="none")
VIDEOLLAMA2_OLD = replace(VIDEOLLAMA2, rule="segment_centres_old")
VIDEOLLAMA2_FPS = replace(VIDEOLLAMA2, rule="segment_fps", count=32)
VALLEY = FrameSpec(rule="linspace", count=8, time_text="none")
VALLEY_PAPER = FrameSpec(rule="step_fps", count=0, fps=0.5, time_text="none")
HOUND_DECORD = FrameSpec(rule="linspace", count=8, first_seconds=10.0, time_text="none")
LLAVACTION = FrameSpec(rule="midpoints", count=16, time_text="llavaction")
ALL = [
    LLAVA_VIDEO,
    LLAVA_VIDEO_BY_RATE,
    VIDEOLLAMA2,
    VIDEOLLAMA2_OLD,
    VIDEOLLAMA2_FPS,
    VALLEY,
    VALLEY_PAPER,
    HOUND_DECORD,
    LLAVACTION,
]


def numbers(text: str) -> dict[str, Any]:
    """'frames=300 start=None' as a dict of numbers."""
    pairs = (pair.split("=") for pair in text.split())
    return {name: None if value == "None" else float(value) for name, value in pairs}


def test_videollama2_segment_centres(goldens: Path) -> None:
    for key, expected in Case(goldens / "videollama2/frame_preprocess").text["expected"]["uniform"].items():
        entry = numbers(key)
        assert segment_centres(int(entry["duration"]), int(entry["num_frames"])) == expected, key


def test_videollama2_rate(goldens: Path) -> None:
    for key, expected in Case(goldens / "videollama2/frame_preprocess").text["expected"]["fps"].items():
        entry = numbers(key)
        assert segment_fps(int(entry["duration"]), entry["fps"]) == expected, key
    assert len(choose_frames(VIDEOLLAMA2_FPS, 9000, 30.0).indices) == 32


def test_videollama2_windows(goldens: Path) -> None:
    for key, expected in Case(goldens / "videollama2/frame_preprocess").text["expected"]["window"].items():
        entry = numbers(key)
        window = (entry["start"], entry["end"])
        choice = choose_frames(VIDEOLLAMA2, int(entry["frames"]), entry["fps"], window=window)
        assert list(choice.indices) == expected["indices"], key


def test_videollama2_old_centres_differ_by_a_frame_at_times() -> None:
    # Borders of 30 frames in 8 parts: 0 4 7 11 14 18 22 25 29 (3.625 steps, rounded).
    assert segment_centres_old(30, 8) == [2, 5, 9, 12, 16, 20, 23, 27]
    assert segment_centres(30, 8) == [2, 5, 9, 13, 16, 20, 24, 27]


def test_valley(goldens: Path) -> None:
    expected = Case(goldens / "valley/valley_load_video").text["expected"]
    for key, indices in expected["fixed"].items():
        entry = numbers(key)
        assert linspace(int(entry["frames"]), int(entry["fixed_frame_number"])) == indices, key
    for key, indices in expected["fps"].items():
        entry = numbers(key)
        spec = replace(VALLEY_PAPER, fps=entry["fps_number"])
        assert list(choose_frames(spec, int(entry["frames"]), entry["fps"]).indices) == indices, key
    for name, frames in (("wide", 13), ("tall", 9)):
        chosen = choose_frames(VALLEY, frames, 25.0).indices
        assert list(chosen) == expected["pixels"][name]["indices"]


def test_hound_takes_eight_frames_of_a_folder_and_ten_for_captions(goldens: Path) -> None:
    arrays = Case(goldens / "hound/preprocess").arrays
    for name, files in (("landscape12", 12), ("portrait5", 5), ("big3", 3)):
        chosen = choose_folder_frames(HOUND_DECORD, files).indices
        assert list(chosen) == arrays[f"video/{name}/frame_ids"].tolist()
    captions = FrameSpec(rule="linspace", count=10)
    assert choose_folder_frames(captions, 91).indices == (0, 10, 20, 30, 40, 50, 60, 70, 80, 90)


def test_hound_reads_the_first_ten_seconds_of_a_video_file() -> None:
    choice = choose_frames(HOUND_DECORD, 9000, 29.97)
    assert choice.indices == tuple(linspace(299, 8))
    assert choose_frames(HOUND_DECORD, 100, 29.97).indices == tuple(linspace(100, 8))


def test_llava_video_takes_a_fixed_number_of_frames() -> None:
    choice = choose_frames(LLAVA_VIDEO, 100, 25.0)
    assert choice.indices == tuple(np.linspace(0, 99, 64, dtype=int).tolist())
    assert choice.told == tuple(i / 25.0 for i in choice.indices)


def test_llava_video_by_rate_divides_times_by_its_step() -> None:
    # 23.976 frames a second: every 24th frame, and the sentence says i / 24, not i / 23.976.
    choice = choose_frames(LLAVA_VIDEO_BY_RATE, 100, 23.976)
    assert choice.indices == (0, 24, 48, 72, 96)
    assert choice.told == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert choice.times == tuple(i / 23.976 for i in choice.indices)
    # At two frames a second the sentence is wrong by a factor of two, as in the original.
    assert choose_frames(replace(LLAVA_VIDEO_BY_RATE, fps=2.0), 48, 24.0).told == (0.0, 1.0, 2.0, 3.0)
    # Above the bound: linspace, and true times.
    long = choose_frames(LLAVA_VIDEO_BY_RATE, 24 * 65, 24.0)
    assert len(long.indices) == 64
    assert long.told == tuple(i / 24.0 for i in long.indices)
    assert len(choose_frames(replace(LLAVA_VIDEO_BY_RATE, count=0), 24 * 65, 24.0).indices) == 65


def test_llava_video_counts_a_folder_as_two_frames_a_second() -> None:
    forced = choose_folder_frames(FrameSpec(count=5), 21)
    assert forced.indices == (0, 5, 10, 15, 20)
    assert forced.told == (0.0, 2.5, 5.0, 7.5, 10.0)
    assert forced.duration == 10.5
    free = choose_folder_frames(LLAVA_VIDEO_BY_RATE, 91)
    assert free.indices == (0, 10, 20, 30, 40, 50, 60, 70, 80, 90)


def test_llavaction_takes_midpoints_of_a_window() -> None:
    spec = replace(LLAVACTION, count=4)
    choice = choose_frames(spec, 900, 30.0, window=(2.0, 6.0))
    assert choice.indices == (75, 105, 135, 165)
    assert choice.told == (0.0, 1.0, 2.0, 3.0)
    assert choice.duration == 4.0
    # The window's end is cut to the last frame, the duration that is told is not.
    late = choose_frames(spec, 900, 30.0, window=(28.0, 32.0))
    assert late.indices[-1] <= 899
    assert late.duration == 4.0


def test_time_texts_byte_for_byte() -> None:
    choice = FrameChoice((0, 30), (0.0, 1.0), 2.5, (0.0, 1.0))
    assert time_text("none", choice) == ""
    assert time_text("llava_video", choice) == (
        "The video lasts for 2.50 seconds, and 2 frames are uniformly sampled from it. These frames are located "
        "at 0.00s,1.00s.Please answer the following questions related to this video."
    )
    assert time_text("llavaction", choice) == (
        "The provided video lasts for 2.500 seconds, and 2 frames are uniformly sampled from it."
    )
    assert time_text("llavaction_other", choice) == (
        "The video lasts for 2.50 seconds, and 2 frames are uniformly sampled from it. "
        "Please answer the following questions related to this video."
    )


def test_windows_of_systems_without_their_own_go_by_time() -> None:
    spec = replace(VALLEY, count=3)
    assert choose_frames(spec, 100, 10.0, window=(2.0, 5.0)).indices == (20, 34, 49)
    times = np.array([0.0, 0.1, 0.2, 4.0, 4.1, 4.2, 9.0])
    assert choose_frames(spec, 7, 0.7, times, window=(4.0, 4.25)).indices == (3, 4, 5)
    # Between two frames the one on the screen is shown.
    assert choose_frames(spec, 7, 0.7, times, window=(5.0, 6.0)).indices == (5, 5, 5)
    assert choose_frames(spec, 7, 0.7, times, window=(None, 0.2)).indices == (0, 0, 1)


@pytest.mark.parametrize("spec", ALL)
def test_reversed_negative_and_empty_windows_are_tidied(spec: FrameSpec) -> None:
    straight = choose_frames(spec, 300, 30.0, window=(2.0, 5.0))
    assert choose_frames(spec, 300, 30.0, window=(5.0, 2.0)) == straight
    assert choose_frames(spec, 300, 30.0, window=(-3.0, 5.0)) == choose_frames(spec, 300, 30.0, window=(0.0, 5.0))
    assert choose_frames(spec, 300, 30.0, window=(3.0, 3.0)) == choose_frames(spec, 300, 30.0, window=(3.0, 4.0))


@pytest.mark.parametrize("spec", ALL)
def test_a_window_behind_the_end_is_an_error(spec: FrameSpec) -> None:
    with pytest.raises(ValueError, match="window starts at 11 s"):
        choose_frames(spec, 300, 30.0, window=(11.0, 12.0))


@pytest.mark.parametrize("spec", ALL)
def test_one_frame_is_shown_as_often_as_the_rule_asks(spec: FrameSpec) -> None:
    choice = choose_frames(spec, 1, 30.0)
    assert set(choice.indices) == {0}
    wanted = 1 if spec.rule in ("segment_fps", "step_fps") or spec == LLAVA_VIDEO_BY_RATE else spec.count
    assert len(choice.indices) == wanted


@pytest.mark.parametrize(
    ("frames", "fps", "times", "message"),
    [
        (0, 25.0, None, "0 frames"),
        (5, 0.0, None, "fps is 0.0"),
        (5, float("nan"), None, "fps is nan"),
        (5, 25.0, [0.0, 1.0], "2 times for 5 frames"),
        (2, 25.0, [1.0, 0.0], "presentation order"),
        (2, 25.0, [0.0, float("nan")], "presentation order"),
    ],
)
def test_impossible_videos_are_errors(frames: int, fps: float, times: list[float] | None, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        choose_frames(LLAVA_VIDEO, frames, fps, None if times is None else np.array(times))


def test_impossible_specs_are_errors() -> None:
    with pytest.raises(ValueError, match="needs at least 1"):
        FrameSpec(rule="linspace", count=0)
    with pytest.raises(ValueError, match="must be above 0"):
        FrameSpec(fps=0.0)
    with pytest.raises(ValueError, match="use choose_frames"):
        pick(LLAVACTION, 10, 1.0)


@settings(max_examples=300, deadline=None)
@given(
    spec=st.sampled_from(ALL),
    count=st.integers(1, 40),
    frames=st.integers(1, 4000),
    fps=st.floats(0.05, 240.0),
    jitter=st.booleans(),
    window=st.none() | st.tuples(st.floats(-2.0, 1.0), st.none() | st.floats(-2.0, 200.0)),
)
def test_what_holds_for_every_rule(
    spec: FrameSpec,
    count: int,
    frames: int,
    fps: float,
    jitter: bool,
    window: tuple[float, float | None] | None,
) -> None:
    spec = replace(spec, count=count)
    times = np.sort(np.random.default_rng(frames).uniform(0, frames / fps, frames)) if jitter else None
    try:
        choice = choose_frames(spec, frames, fps, times, window)
    except ValueError as error:
        assert window is not None and "window starts" in str(error)
        return
    assert 1 <= len(choice.indices) <= count
    assert list(choice.indices) == sorted(choice.indices)
    assert choice.indices[0] >= 0 and choice.indices[-1] < frames
    stamps = np.arange(frames) / fps if times is None else times
    assert choice.times == tuple(float(stamps[i]) for i in choice.indices)
    assert len(choice.told) == len(choice.indices) and choice.told[0] >= 0
    assert choice.duration >= 0
    exact = spec.rule in ("linspace", "segment_centres", "segment_centres_old", "midpoints") or spec.force_sample
    if exact and spec.rule not in ("segment_fps", "step_fps"):
        assert len(choice.indices) == count
