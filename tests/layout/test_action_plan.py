"""Where the places stand that action heads read."""

from dataclasses import replace
from typing import Any

import pytest

from tests.layout.specs import ids, spec
from vidlmm.layout import Item, draw, lay_out, video_plan
from vidlmm.layout.row import IMAGE, VIDEO
from vidlmm.spec import ActionSpec, ModelSpec, SlowFastSpec
from vidlmm.spec.action import Supervision

TYPES = (("verb", 2), ("noun", 3), ("action", 4))


def small(supervision: Supervision, **connector: Any) -> ModelSpec:
    return replace(spec(**{"pool_mode": "average", **connector}), action=ActionSpec(TYPES, supervision))


DRAWINGS = {
    ("one_token", "grid"): ["0 SSn", "  SSn", "1 SSn", "  SSna"],
    ("one_token", "frame"): ["0 SS", "  SSn", "1 SS", "  SSna"],
    ("one_token", "one_token"): ["0 SS", "  SS", "1 SS", "  SSna"],
    ("one_token", "no_token"): ["0 SS", "  SS", "1 SS", "  SSa"],
    ("three_tokens", "grid"): ["0 SSn", "  SSn", "1 SSn", "  SSnaaa"],
    ("newline", "grid"): ["0 SSn", "  SSn", "1 SSn", "  SSa"],
    ("newline", "one_token"): ["0 SS", "  SS", "1 SS", "  SSa"],
}


@pytest.mark.parametrize(("supervision", "newline"), DRAWINGS)
def test_they_end_the_video(supervision: Supervision, newline: str) -> None:
    plan = video_plan(2, small(supervision, newline=newline))
    assert draw(plan).split("\n") == DRAWINGS[supervision, newline]


def test_text_follows_them() -> None:
    row = lay_out(ids(7, VIDEO, 8), None, [Item("video", 1)], small("three_tokens"))
    assert draw(row).split("\n") == ["  T", "0 SSn", "  SSnaaa", "  T"]


def test_pictures_have_none() -> None:
    row = lay_out(ids(7, IMAGE, 8), None, [Item("image", 1, (10, 10))], small("one_token"))
    assert "a" not in draw(row)


@pytest.mark.parametrize("connector", [{"newline": "no_token"}, {"slowfast": SlowFastSpec(2)}])
def test_a_newline_that_does_not_end_the_video_cannot_be_read(connector) -> None:
    with pytest.raises(ValueError, match="read the newline that ends a video"):
        video_plan(2, small("newline", **connector))
