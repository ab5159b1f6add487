"""Pixels, boards and files agree with the script."""

import json

import numpy as np
import pytest

from vidlmm.data.records import read_records
from vidlmm.media.index import probe
from vidlmm.media.read import read_frames
from vidlmm.world.dataset import make_world
from vidlmm.world.encode import FPS, write_clip
from vidlmm.world.motion import RADIUS, shown_at
from vidlmm.world.render import BACKGROUND, RGB, draw_frame
from vidlmm.world.script import write_script
from vidlmm.world.sound import events, waveform
from vidlmm.world.stills import scene
from vidlmm.world.storyboard import storyboard

SCRIPTS = [write_script(2, "train", number) for number in range(40)]


@pytest.mark.parametrize("script", SCRIPTS[:12], ids=lambda s: s.kind)
def test_every_thing_is_drawn_where_it_is(script):
    side = 128
    for t in (0.0, 0.5, 1.0):
        picture = draw_frame(script, t, side).astype(int)
        for thing in shown_at(script, t):
            if thing.shape == "person" or not (0.1 < thing.x < 0.9 and 0.1 < thing.y < 0.9):
                continue
            assert np.abs(picture[int(thing.y * side), int(thing.x * side)] - RGB[thing.colour]).max() < 12
        corner = picture[:4, :4].reshape(-1, 3)
        assert (np.abs(corner - BACKGROUND[script.background]).max(axis=1) < 12).any()


@pytest.mark.parametrize("script", SCRIPTS[:12], ids=lambda s: s.kind)
def test_the_cell_of_a_things_centre_names_it(script):
    boards = storyboard(script, frames=5, grid=4)
    for n, board in enumerate(boards):
        for thing in shown_at(script, n / 4):
            if 0 <= thing.x < 1 and 0 <= thing.y < 1:
                words = board[int(thing.y * 4) * 4 + int(thing.x * 4)]
                assert {thing.size, thing.colour, thing.shape} <= set(words)
        assert all(words[0] == script.background for words in board)


def test_a_clip_is_a_real_video_with_sound_where_the_script_says(tmp_path):
    loud = next(s for s in SCRIPTS if s.sound)
    quiet = next(s for s in SCRIPTS if not s.sound)
    for script in (loud, quiet):
        path = tmp_path / f"{script.id}.mp4"
        write_clip(script, path)
        info = probe(str(path))
        assert info.frames == round(script.duration * FPS)
        assert info.duration == pytest.approx(script.duration, abs=0.1)
        assert info.codec == "h264" and info.has_audio == script.sound
        last = read_frames(str(path), [info.frames - 1])[0]
        assert np.abs(last.astype(int) - draw_frame(script, 1.0)).mean() < 6
    assert not list(tmp_path.glob("*.part"))


def test_tones_stand_at_the_events():
    script = next(s for s in SCRIPTS if s.kind == "bounce")
    sound = waveform(script)
    assert len(events(script)) == max(t.turns for t in script.things)
    for second, _ in events(script):
        begin = int(second * 16_000)
        assert np.abs(sound[begin : begin + 1600]).max() > 0.1
    assert np.abs(sound[: int(events(script)[0][0] * 16_000) - 1]).max() == 0


def test_stills_are_moments_of_training_clips_and_crowds_by_turns():
    stills = [scene(9, number) for number in range(200)]
    assert stills[:20] == [scene(9, number) for number in range(20)]
    assert all(script == write_script(9, "train", 2 * n) for n, (script, _) in enumerate(stills[::2]))
    crowds = [script for script, _ in stills[1::2]]
    assert {len(script.things) for script in crowds} == {1, 2, 3, 4, 5}
    for script in crowds:
        assert all(thing.action == "still" for thing in script.things)
        for n, one in enumerate(script.things):
            for other in script.things[:n]:
                assert np.hypot(*np.subtract(one.path[0], other.path[0])) >= RADIUS[one.size] + RADIUS[other.size]


def test_a_world_is_written_in_the_released_format_and_goes_on_after_a_stop(tmp_path):
    counts = {"train": 4, "heldout": 2}
    seen: list[tuple[int, int]] = []
    make_world(tmp_path, counts, seed=1, on_clip=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (6, 6)
    for name in ("train_cap", "train_oe", "train_mc", "train_all", "heldout_mc"):
        records = read_records(tmp_path / f"{name}.json")
        assert len(records) == counts[name.split("_")[0]]
        assert all(record.media[0].kind == "video" for record in records)
    rows = json.loads((tmp_path / "heldout_mc.json").read_text())
    assert all(len(row["questions"]) * 2 == len(row["conversations"]) for row in rows)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "clips").iterdir()}
    (tmp_path / "clips" / "train-1-00002.mp4").unlink()
    make_world(tmp_path, counts, seed=1)
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "clips").iterdir()}
    assert set(after) == set(before)
    assert [name for name in after if after[name] != before[name]] == ["train-1-00002.mp4"]
