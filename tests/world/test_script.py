"""Scripts: splits share no combination, everything follows from the seed, things stay in the picture."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlmm.world.motion import shown_at, thing_at
from vidlmm.world.script import SPLITS, combination_split, write_script
from vidlmm.world.words import ACTIONS, CAMERAS, COLOURS, SHAPES

CLIPS = [write_script(3, split, number) for split in SPLITS for number in range(150)]


def acted(script):
    """Every (shape, colour, action) that a clip shows in motion; a moving camera counts for the first thing."""
    for number, thing in enumerate(script.things):
        if thing.action != "still":
            yield thing.shape, thing.colour, thing.action
        elif script.camera != "still" and number == 0:
            yield thing.shape, thing.colour, f"camera {script.camera}"


@pytest.mark.parametrize("split", SPLITS)
def test_what_a_split_shows_in_motion_belongs_to_it_alone(split):
    shown = {combination for s in CLIPS if s.split == split for combination in acted(s)}
    assert shown
    assert {combination_split(*combination) for combination in shown} == {split}


def test_every_shape_colour_and_action_is_seen_in_training():
    """Held-out clips combine what training shows in other combinations."""
    allowed = [
        (s, c, a)
        for s, c, a in itertools.product(SHAPES, COLOURS, (*ACTIONS, *(f"camera {c}" for c in CAMERAS)))
        if combination_split(s, c, a) == "train"
    ]
    assert {s for s, _, _ in allowed} == set(SHAPES)
    assert {(s, c) for s, c, _ in allowed} == set(itertools.product(SHAPES, COLOURS))
    assert {(s, a) for s, _, a in allowed} >= {(s, a) for s in SHAPES for a in ACTIONS}
    assert {(c, a) for _, c, a in allowed} >= {(c, a) for c in COLOURS for a in ACTIONS}


def test_a_script_is_a_function_of_its_seed():
    assert write_script(5, "train", 7) == write_script(5, "train", 7)
    assert write_script(5, "train", 7) != write_script(6, "train", 7)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="unknown split 'test'"):
        write_script(0, "test", 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_under_a_still_camera_things_stay_in_the_picture_and_apart(number, t):
    script = write_script(11, "train", number)
    if script.camera != "still":
        return
    shown = shown_at(script, t)
    for thing in shown:
        assert thing.x - 0.5 * thing.radius >= 0.0 and thing.x + 0.5 * thing.radius <= 1.0
        assert thing.y - 0.5 * thing.radius >= 0.0 and thing.y + 0.5 * thing.radius <= 1.0
    for a, b in itertools.combinations(shown, 2):
        assert np.hypot(a.x - b.x, a.y - b.y) > 0.5 * (a.radius + b.radius)
    names = [(thing.shape, thing.colour) for thing in script.things]
    assert len(set(names)) == len(names)


def test_actions_do_what_their_names_say():
    seen = set()
    for script in CLIPS:
        for thing in script.things:
            first, last = thing_at(thing, 0.0), thing_at(thing, 1.0)
            seen.add(thing.action)
            if thing.action == "appear":
                assert first is None and last is not None
                continue
            if thing.action == "vanish":
                assert first is not None and last is None
                continue
            assert first is not None and last is not None
            if thing.action == "grow":
                assert last.radius > first.radius
            elif thing.action == "shrink":
                assert last.radius < first.radius
            elif thing.action == "recolour":
                assert (first.colour, last.colour) == (thing.colour, thing.becomes) and first.colour != last.colour
            elif thing.action in ("left", "right"):
                assert np.sign(last.x - first.x) == (1 if thing.action == "right" else -1)
                assert abs(last.x - first.x) > 0.2 and last.y == first.y
            elif thing.action in ("up", "down"):
                assert np.sign(last.y - first.y) == (1 if thing.action == "down" else -1)
    assert seen == set(ACTIONS)


def test_a_bouncing_thing_turns_as_often_as_its_script_says():
    bouncing = [t for s in CLIPS for t in s.things if t.action == "bounce"]
    assert {t.turns for t in bouncing} == {1, 2, 3}
    for thing in bouncing:
        shown = [at for at in (thing_at(thing, t) for t in np.linspace(0, 1, 241)) if at is not None]
        places = np.array([[at.x, at.y] for at in shown])
        moves = np.diff(places, axis=0).sum(axis=1)
        assert int((np.diff(np.sign(moves[np.abs(moves) > 1e-9])) != 0).sum()) == thing.turns
