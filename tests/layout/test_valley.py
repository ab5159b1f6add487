"""Valley's blocks: written out for placeholders, and filled where the ids already have them."""

from dataclasses import replace

import numpy as np
import pytest

from vidlmm.layout import Item, item_plan
from vidlmm.layout.row import IGNORE, VIDEO
from vidlmm.layout.valley import has_blocks, valley_row
from vidlmm.spec.systems_valley import VALLEY2_7B
from vidlmm.spec.tables import Table

IDS = {"<im_patch>": 94, "<im_start>": 95, "<im_end>": 96, "<vi_frame>": 91, "<vi_start>": 92, "<vi_end>": 93}
SPEC = replace(
    VALLEY2_7B,
    tower=replace(VALLEY2_7B.tower, image_size=28),
    special_tokens=tuple(IDS.items()),
)
CLIP, CLASS = Table.VISUAL, Table.VISUAL + 1


def block(frames: int) -> list[int]:
    return [95, *[94] * 4, 96, 92, *[91] * frames, 93]


def row(ids: list[int], *frames: int, labels: list[int] | None = None):
    items = [item_plan(Item("video", count), SPEC) for count in frames]
    trained = None if labels is None else np.array(labels, np.int32)
    return valley_row(np.array(ids, np.int32), trained, items, SPEC)


def test_patches_stand_before_frames_between_learned_tokens():
    found = row([7, VIDEO, 8], 3)
    text = Table.TEXT
    assert found.table.tolist() == [text, text, *[CLIP] * 4, text, text, *[CLASS] * 3, text, text]
    assert found.row.tolist() == [7, 95, 0, 1, 2, 3, 96, 92, 0, 1, 2, 93, 8]
    assert found.shows.clips == ((0, 1, 2),) and found.shows.frames == 3


def test_written_blocks_give_the_same_row_as_placeholders():
    short = row([7, VIDEO, 8, VIDEO, 9], 3, 1, labels=[IGNORE, IGNORE, 8, IGNORE, 9])
    ids = [7, *block(3), 8, *block(1), 9]
    labels = [IGNORE] * 12 + [8] + [IGNORE] * 9 + [9]
    whole = row(ids, 3, 1, labels=labels)
    for name in ("table", "row", "position", "target", "weight"):
        np.testing.assert_array_equal(getattr(short, name), getattr(whole, name))
    assert short.shows.units == whole.shows.units
    # The second item's patches and class token are counted after the first one's.
    assert whole.row[13:17].tolist() == [95, 4, 5, 6] and whole.row[20] == 3
    assert whole.shows.clips == ((0, 1, 2), (3,))
    assert whole.weight.sum() == 2


def test_text_alone_needs_no_token_ids():
    bare = replace(SPEC, special_tokens=())
    assert valley_row(np.array([1, 2], np.int32), None, [], bare).row.tolist() == [1, 2]


def test_the_visual_tokens_alone_have_no_frame_around_them():
    bare = replace(SPEC, placeholders="index")
    assert has_blocks(SPEC) and not has_blocks(bare)
    found = item_plan(Item("video", 2), bare)
    assert found.table.tolist() == [*[CLIP] * 4, *[CLASS] * 2] and found.row.tolist() == [0, 1, 2, 3, 0, 1]


@pytest.mark.parametrize(
    ("ids", "frames", "said"),
    [
        (block(2), (3,), "4 <im_patch> and 2 <vi_frame>; expected, in this order, 4 <im_patch> and 3 <vi_frame>"),
        ([95, *[94] * 3, 96, 92, *[91] * 4, 93], (3,), "3 <im_patch> and 4 <vi_frame>"),
        ([*block(1), *block(3)], (3, 1), "expected, in this order, 4 <im_patch> and 3 <vi_frame>, then"),
        ([7, 8], (1,), "0 <im_patch> and 0 <vi_frame>"),
        (block(1), (), "4 <im_patch> and 1 <vi_frame>; expected, in this order, none"),
        ([VIDEO, VIDEO], (1,), "2 media placeholder.s. and 1 media"),
    ],
)
def test_blocks_that_are_not_their_items_are_refused(ids, frames, said):
    with pytest.raises(ValueError, match=said):
        row(ids, *frames)


def test_unknown_token_ids_are_named():
    spec = replace(SPEC, special_tokens=(("<im_patch>", 94), ("<vi_frame>", 91)))
    with pytest.raises(ValueError, match="<im_start>, <im_end>, <vi_start>, <vi_end> are not known.*special_tokens="):
        item_plan(Item("video", 1), spec)
