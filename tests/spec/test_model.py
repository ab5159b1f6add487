"""Specs as values: text and back, texts of before, and the tables that a system's plans count in."""

import json
from dataclasses import replace

import pytest

from vidlmm.spec import (
    SYSTEMS,
    ActionSpec,
    AudioSpec,
    ConnectorSpec,
    ModelSpec,
    PixelSpec,
    STCSpec,
    TableSpec,
    TowerSpec,
    from_json,
    to_json,
)

CLIP = TowerSpec(image_size=28, width=8, class_token=True)
EVERYTHING = ModelSpec(
    "everything",
    replace(CLIP, select="all", temporal=8),
    ConnectorSpec(kind="stc", stc=STCSpec(downsample=(1, 2, 2)), newline="no_token"),
    pixels=PixelSpec(size=28, canvases=((28, 56), (56, 28))),
    image_tower=CLIP,
    image_pixels=PixelSpec(size=28),
    audio=AudioSpec(),
    action=ActionSpec(types=(("verb", 97), ("noun", 300))),
    placeholders="expanded",
    special_tokens=(("image", 5), ("video", 6)),
)


@pytest.mark.parametrize("spec", [*SYSTEMS.values(), EVERYTHING], ids=lambda spec: spec.name)
def test_a_spec_comes_back_from_its_text(spec: ModelSpec) -> None:
    assert from_json(to_json(spec)) == spec


def test_a_text_without_the_newer_fields_is_read() -> None:
    old = {
        "name": "before",
        "tower": {"image_size": 96, "patch_size": 12, "class_token": False},
        "connector": {"kind": "mlp2x_gelu", "pool_mode": "average", "slowfast": None, "unpooled_images": False},
        "decoder": {"vocab": 704, "tied_head": True},
        "pixels": {"size": 96, "mean": [0.5, 0.5, 0.5]},
    }
    spec = from_json(json.dumps(old))
    assert spec.tables() == (TableSpec("frame", 16, 4),)
    assert (spec.tower.select, spec.connector.temporal, spec.decoder.experts, spec.audio) == ("patch", "none", 0, None)


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(ValueError, match=r"TowerSpec: unknown field\(s\) \['depth'\]; known are"):
        from_json('{"name": "x", "tower": {"depth": 3}}')


def tables(spec: ModelSpec, *lengths: int) -> list[tuple[str, int]]:
    return [(table.unit, table.rows) for table in spec.tables(*lengths)]


def test_tables_of_pooled_frames_and_unpooled_pictures() -> None:
    released = SYSTEMS["llava_video_7b_released"]
    assert tables(released) == [("frame", 196), ("frame", 729), ("blend", 1)]
    assert tables(SYSTEMS["llava_video_72b"]) == [("frame", 169), ("frame", 36)]


@pytest.mark.parametrize(
    ("kind", "frames", "rows"),
    [
        (STCSpec(), 8, 5 * 13 * 13),
        (STCSpec(), 16, 1521),
        (STCSpec(padding=0, sampler="pool"), 8, 576),
        (STCSpec(depth=0, downsample=(1, 2, 2)), 8, 1690),
        (STCSpec(), 0, 0),
    ],
)
def test_tables_of_clips_have_the_rows_of_the_longest_clip(kind: STCSpec, frames: int, rows: int) -> None:
    spec = ModelSpec("stc", replace(CLIP, image_size=336), ConnectorSpec(kind="stc", stc=kind, newline="no_token"))
    assert tables(spec, frames) == [("clip", rows)]


def test_tables_of_valley_of_two_towers_and_of_sound() -> None:
    valley = ModelSpec("valley", replace(CLIP, select="all"), ConnectorSpec(temporal="valley_v1", pool_stride=1))
    assert tables(valley, 8) == [("clip", 4), ("frame", 1)]
    whole = ConnectorSpec(newline="no_token", pool_stride=1)
    two = ModelSpec("two", replace(CLIP, select="all"), whole, image_tower=CLIP, audio=AudioSpec())
    assert tables(two, 0, 2998) == [("frame", 5), ("picture", 4), ("sound", 1496)]


@pytest.mark.parametrize(
    ("connector", "there"),
    [
        (ConnectorSpec(), True),
        (ConnectorSpec(newline="no_token"), False),
        (ConnectorSpec(newline="no_token", unpooled_images=True), True),
        (ConnectorSpec(newline="no_token", unpooled_images=True, patch_merge="flat"), False),
    ],
)
def test_a_newline_is_learned_where_something_ends_with_one(connector: ConnectorSpec, there: bool) -> None:
    assert connector.has_newline is there
