"""Where the tokens of a video and a picture stand: drawings, and the counts of the released code."""

import numpy as np
import pytest

from tests.layout.specs import ids, spec
from vidlmm.layout import Special, Table, draw, merge, video_plan
from vidlmm.layout.row import VIDEO
from vidlmm.spec import SYSTEMS, ConnectorSpec, ModelSpec, SlowFastSpec

DRAWINGS = {
    ("average", "grid"): """
0 SSn
  SSn
1 SSn
  SSn""",
    ("average", "frame"): """
0 SS
  SSn
1 SS
  SSn""",
    ("average", "one_token"): """
0 SS
  SS
1 SS
  SSn""",
    ("average", "no_token"): """
0 SS
  SS
1 SS
  SS""",
    ("bilinear", "grid"): """
0 SSSn
  SSSn
  SSSn
1 SSSn
  SSSn
  SSSn""",
    ("bilinear", "frame"): """
0 SSS
  SSS
  SSSn
1 SSS
  SSS
  SSSn""",
    ("bilinear", "one_token"): """
0 SSS
  SSS
  SSS
1 SSS
  SSS
  SSSn""",
    ("bilinear", "no_token"): """
0 SSS
  SSS
  SSS
1 SSS
  SSS
  SSS""",
}


@pytest.mark.parametrize(("mode", "newline"), DRAWINGS)
def test_newline_layouts_of_an_odd_grid(mode, newline):
    small = spec(5, pool_mode=mode, newline=newline)
    assert draw(video_plan(2, small)) == DRAWINGS[mode, newline].strip("\n")


def test_slowfast_pools_every_third_frame_less_and_ends_each_frame_with_the_faster_token():
    small = spec(5, pool_mode="average", slowfast=SlowFastSpec(stride=3))
    assert draw(video_plan(5, small)) == "\n".join(["0 SSn", "  SSnf", "1 Fnf", "2 Fnf", "3 SSn", "  SSnf", "4 Fnf"])


def test_slowfast_rows_point_to_the_frames_cells_of_their_own_level():
    small = spec(8, pool_mode="average", slowfast=SlowFastSpec(stride=2))  # sides 4 and 2
    plan = video_plan(3, small)
    fast = plan.row[plan.table == Table.VISUAL + 1]
    slow = plan.row[plan.table == Table.VISUAL]
    np.testing.assert_array_equal(fast, np.arange(4, 8))  # frame 1 of the level with 4 cells
    np.testing.assert_array_equal(slow, [*range(16), *range(32, 48)])  # frames 0 and 2
    assert (plan.table == Table.SPECIAL).sum() == 4 + 2 + 4 + 3
    assert (plan.row[plan.table == Table.SPECIAL] == Special.FASTER).sum() == 3
    assert [table.rows for table in plan.tables] == [16, 4]
    assert plan.frames == 3


@pytest.mark.parametrize("newline", ["grid", "frame", "one_token", "no_token"])
def test_every_cell_of_every_frame_stands_once_and_in_order(newline):
    small = spec(7, pool_mode="bilinear", newline=newline)
    plan = video_plan(3, small)
    np.testing.assert_array_equal(plan.row[plan.table == Table.VISUAL], np.arange(3 * 16))


@pytest.mark.parametrize(
    ("mode", "newline", "tokens"),
    [
        ("bilinear", "grid", 13440),
        ("bilinear", "frame", 12608),
        ("bilinear", "one_token", 12545),
        ("bilinear", "no_token", 12544),
        ("average", "grid", 11648),
        ("max", "grid", 11648),
    ],
)
def test_tokens_of_64_frames_at_the_released_size(mode, newline, tokens):
    released = ModelSpec(name="released", connector=ConnectorSpec(pool_mode=mode, newline=newline))
    assert len(video_plan(64, released)) == tokens


@pytest.mark.parametrize(("mode", "slow", "fast"), [("average", 183, 43), ("bilinear", 211, 57)])
@pytest.mark.parametrize(("frames", "stride"), [(64, 3), (32, 10), (1, 3), (6, 3), (7, 3), (5, 1)])
def test_slowfast_tokens_at_the_released_size(mode, slow, fast, frames, stride):
    connector = ConnectorSpec(pool_mode=mode, slowfast=SlowFastSpec(stride))
    slow_frames = -(-frames // stride)
    expected = slow_frames * slow + (frames - slow_frames) * fast
    assert len(video_plan(frames, ModelSpec(name="slowfast", connector=connector))) == expected


def test_the_published_systems_fit_their_decoders():
    for name, system in SYSTEMS.items():
        tokens = len(video_plan(system.frames.count, system))
        assert tokens < system.decoder.max_length, name


def test_text_around_a_video_is_drawn_on_lines_of_its_own():
    small = spec(5, pool_mode="average", newline="one_token")
    row = merge(ids(5, 6, 7, VIDEO, *range(30)), None, [video_plan(1, small)])
    assert draw(row) == "\n".join(["  TTT", "0 SS", "  SSn", "  T*30"])


def test_a_video_without_frames_is_refused():
    with pytest.raises(ValueError, match="at least 1 frame, got 0"):
        video_plan(0, spec())


@pytest.mark.parametrize("newline", ["frame", "one_token", "no_token"])
def test_slowfast_is_refused_without_grid_newlines(newline):
    with pytest.raises(ValueError, match=newline):
        video_plan(4, spec(8, newline=newline, slowfast=SlowFastSpec(2)))


def test_slowfast_with_a_stride_of_no_frames_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        video_plan(4, spec(8, slowfast=SlowFastSpec(0)))


def test_a_grid_that_is_pooled_away_is_refused():
    with pytest.raises(ValueError, match=r"3 x 3 patches .* sides \(1, 0\)"):
        video_plan(2, spec(3, pool_mode="average", slowfast=SlowFastSpec(2)))
