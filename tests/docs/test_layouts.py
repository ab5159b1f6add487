"""The pictures of token layouts are those that the plans give now, and the cards tell of every system."""

import re
import runpy
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from vidlmm.layout import Table, item_plan
from vidlmm.spec import SYSTEMS

DOCS = Path(__file__).parents[2] / "docs"
DRAW = runpy.run_path(str(DOCS / "draw_layouts.py"))
DRAWINGS = DRAW["DRAWINGS"]
CARDS = (DOCS / "systems.md").read_text()


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_picture_is_what_the_plan_gives_now(name):
    stored = (DOCS / "images" / f"layout_{name}.svg").read_text()
    assert stored == DRAW["svg"](DRAWINGS[name]), "the layout has changed: run python docs/draw_layouts.py and look"


def test_no_picture_is_left_over_and_every_card_has_its_own():
    there = {path.name for path in (DOCS / "images").glob("layout_*.svg")}
    assert there == {f"layout_{name}.svg" for name in DRAWINGS} == set(re.findall(r"images/(layout_\w+\.svg)", CARDS))


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_place_is_a_square_inside_the_card_and_in_the_legend(name):
    drawing = DRAWINGS[name]
    row = DRAW["row_of"](drawing.spec, drawing.item)
    found = DRAW["places"](row, drawing.spec, drawing.item)
    assert len(found) == len(row) == len(item_plan(drawing.item, drawing.spec)) + 10
    kinds = {place.kind for place in found}
    card = ET.fromstring(DRAW["svg"](drawing))
    squares = [one for one in card.iter("{http://www.w3.org/2000/svg}rect") if one.get("rx") == "2"]
    assert len(squares) == len(row) + len(kinds)
    corners = [(float(one.attrib["x"]), float(one.attrib["y"])) for one in squares]
    assert len(set(corners)) == len(squares)
    assert all(0 < x < DRAW["WIDTH"] - 30 and 0 < y < float(card.attrib["height"]) - 30 for x, y in corners)


def test_colours_tell_what_the_plan_says():
    drawing = DRAWINGS["llava_video_slowfast"]
    row = DRAW["row_of"](drawing.spec, drawing.item)
    found = DRAW["places"](row, drawing.spec, drawing.item)
    slow, fast = (sum(place.kind is DRAW[name] for place in found) for name in ("SLOW", "FAST"))
    assert slow == (row.table == Table.VISUAL).sum() == 2 * 16
    assert fast == (row.table == Table.VISUAL + 1).sum() == 4 * 4
    assert sum(place.kind is DRAW["FASTER"] for place in found) == 6
    marks = "".join(place.kind.mark or "." for place in DRAW["places"](*both("valley")))
    assert marks == "....m" + 25 * "." + "mm" + 8 * "c" + "m......"
    assert "".join(place.kind.mark for place in DRAW["places"](*both("llavaction"))).endswith("na")
    assert "".join(place.kind.mark for place in DRAW["places"](*both("video_llava"))) == 8 * "c"


def both(name):
    drawing = DRAWINGS[name]
    return DRAW["row_of"](drawing.spec, drawing.item), drawing.spec, drawing.item


def test_the_cards_name_every_published_system():
    published = set(SYSTEMS) - {"quickstart"}
    named = {name for name in re.findall(r"`([a-z0-9_]+)`", CARDS) if name in SYSTEMS}
    assert named >= published, sorted(published - named)


def test_the_cards_count_tokens_as_the_plans_do():
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| ([\d,]+) \|", CARDS, re.MULTILINE)
    assert {name for name, *_ in rows} == set(SYSTEMS) - {"quickstart"}
    for name, frames, tokens in rows:
        spec = SYSTEMS[name]
        assert int(frames) == spec.frames.count, name
        sound = 2998 if spec.audio else 0
        plan = item_plan(DRAW["Item"]("video", spec.frames.count, sound=sound), spec)
        assert int(tokens.replace(",", "")) == len(plan), name
