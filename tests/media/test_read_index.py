"""What `probe` says of a clip: count, times, rate, keyframes, size."""

from itertools import pairwise

import numpy as np
import pytest

from tests.media.clips import make
from vidlmm.media.index import Packets, probe
from vidlmm.media.plan import RESTART, plan_runs


def test_a_plain_clip(tmp_path):
    info = probe(make(tmp_path / "a.mp4", 25, options={"g": "10", "bf": "0", "sc_threshold": "0"}, sound=True))
    assert (info.frames, info.fps, info.codec, info.has_audio) == (25, 10.0, "h264", True)
    assert (info.width, info.height, info.rotation) == (128, 96, 0)
    assert info.keyframes == (0, 10, 20)
    assert info.duration == pytest.approx(2.5, abs=1e-3)
    np.testing.assert_allclose(info.times, np.arange(25) / 10, atol=1e-3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_times_are_counted_from_the_first_frame(suffix, tmp_path):
    stamps = [7000 + t for t in (0, 40, 95, 300, 310, 1200)]
    info = probe(make(tmp_path / f"uneven.{suffix}", 6, times=stamps))
    np.testing.assert_allclose(info.times, [0, 0.04, 0.095, 0.3, 0.31, 1.2], atol=1e-6)
    assert info.duration >= 1.2


def test_a_single_frame_lasts_one_step(tmp_path):
    info = probe(make(tmp_path / "one.mp4", 1))
    assert (info.frames, info.fps) == (1, 10.0)
    assert info.duration == pytest.approx(0.1, abs=1e-3)


def test_real_clips(shared):
    expected = {
        "animated.gif": (4, 64, 48, 0, "gif", False),
        "decord_video_90.mov": (3, 320, 568, 90, "h264", False),
        "flipping_a_pancake.mkv": (310, 426, 240, 0, "h264", True),
        "h265_video.mp4": (10, 128, 128, 0, "hevc", False),
        "jobs.mp4": (524, 576, 1024, 0, "h264", True),
        "nasa_13013.mp4": (390, 480, 270, 0, "h264", True),
        "test_non_zero_start.mp4": (12, 200, 112, 0, "h264", False),
        "testsrc2_mpeg4.avi": (30, 1280, 720, 0, "mpeg4", False),
    }
    for name, facts in expected.items():
        info = probe(shared / "media" / name)
        assert (info.frames, info.width, info.height, info.rotation, info.codec, info.has_audio) == facts, name
        assert info.times[0] == 0
        assert (np.diff(info.times) > 0).all()


def packets(count: int, keyframes: list[int]) -> Packets:
    """Frames stored in the order in which they are shown."""
    keyframe = np.isin(np.arange(count), keyframes)
    return Packets(np.arange(count) * 10, keyframe, np.ones(count, bool), np.arange(count), timed=True)


def spans(runs) -> list[tuple[int, int]]:
    return [(run.start, run.stop) for run in runs]


def test_far_frames_start_at_their_own_keyframes():
    runs = plan_runs(packets(300, [0, 100, 200]), [3, 105, 250])
    assert spans(runs) == [(0, 3), (100, 105), (200, 250)]
    assert [run.targets for run in runs] == [{30: 3}, {1050: 105}, {2500: 250}]


def test_a_keyframe_just_ahead_is_reached_by_decoding():
    assert spans(plan_runs(packets(100, [0, 50]), [50 - RESTART, 51])) == [(0, 51)]
    assert spans(plan_runs(packets(100, [0, 50]), [49 - RESTART, 51])) == [(0, 49 - RESTART), (50, 51)]


def test_frames_shown_before_a_keyframe_but_stored_after_it_need_the_group_before():
    # stored: I0 P3 B1 B2 | I6 B4 B5 P9 B7 B8, shown by their numbers
    shown_at = np.array([0, 3, 1, 2, 6, 4, 5, 9, 7, 8])
    keyframe = np.isin(shown_at, [0, 6])
    stored = Packets(shown_at, keyframe, np.ones(10, bool), np.argsort(shown_at), timed=True)
    assert spans(plan_runs(stored, [5])) == [(0, 6)]


@pytest.mark.parametrize("seed", range(20))
def test_runs_cover_every_wanted_frame_from_its_keyframe(seed):
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 200))
    keyframes = sorted({0, *random.integers(0, count, 8).tolist()})
    wanted = set(random.integers(0, count, int(random.integers(1, 30))).tolist())
    runs = plan_runs(packets(count, keyframes), wanted)
    assert {i for run in runs for i in run.targets.values()} == wanted
    for run in runs:
        assert run.start in keyframes
        for i in run.targets.values():
            assert run.start <= max(k for k in keyframes if k <= i) <= i <= run.stop
    assert all(before.stop < after.start for before, after in pairwise(runs))
