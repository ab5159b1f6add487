"""Video-LLaVA's media: a placeholder a frame, and a token a place."""

from dataclasses import replace

import numpy as np
import pytest

from vidlmm.layout import Item, item_plan
from vidlmm.layout.languagebind import frames_row, tokens_row
from vidlmm.layout.row import IGNORE, IMAGE, VIDEO
from vidlmm.spec.systems_hound import LLAVA_HOUND, VIDEO_LLAVA_7B, VIDEO_LLAVA_7B_HF
from vidlmm.spec.tables import Table

FRAME, PICTURE, TEXT = Table.VISUAL, Table.VISUAL + 1, Table.TEXT


def small(spec):
    """The system on pictures of 2 x 2 patches."""
    towers = {"tower": replace(spec.tower, image_size=28), "image_tower": replace(spec.image_tower, image_size=28)}
    return replace(spec, **towers)


ORIGINAL = small(VIDEO_LLAVA_7B)
PORT = replace(small(VIDEO_LLAVA_7B_HF), special_tokens=(("<image>", 32), ("<video>", 33)))


def array(values: list[int]) -> np.ndarray:
    return np.array(values, np.int32)


def plans(spec, *items: Item):
    return [item_plan(item, spec) for item in items]


def test_at_real_size_a_video_has_2048_or_2056_places_and_a_picture_256():
    for spec, video in ((LLAVA_HOUND, 2048), (VIDEO_LLAVA_7B, 2056), (VIDEO_LLAVA_7B_HF, 2056)):
        lengths = [len(item) for item in plans(spec, Item("video", 8), Item("image", 1))]
        assert lengths == [video, 256], spec.name


def test_each_placeholder_takes_the_rows_of_its_frame():
    ids = array([1, *[IMAGE] * 4, 2, *[IMAGE] * 4, 3, IMAGE])
    found = frames_row(ids, None, plans(ORIGINAL, Item("video", 8), Item("image", 1)), ORIGINAL)
    assert found.table.tolist() == [TEXT, *[FRAME] * 20, TEXT, *[FRAME] * 20, TEXT, *[PICTURE] * 4]
    assert found.row.tolist() == [1, *range(20), 2, *range(20, 40), 3, *range(4)]
    assert (found.shows.frames, found.shows.pictures) == (8, 1)


def test_labels_stand_behind_media():
    ids, labels = array([1, *[IMAGE] * 8, 5, 6]), array([IGNORE] * 9 + [5, 6])
    found = frames_row(ids, labels, plans(ORIGINAL, Item("video", 8)), ORIGINAL)
    assert found.target[40:42].tolist() == [5, 6] and found.weight.sum() == 2


def test_one_placeholder_of_a_video_is_read_too():
    items = plans(ORIGINAL, Item("video", 8))
    short, long = (frames_row(array(ids), None, items, ORIGINAL) for ids in ([1, VIDEO], [1, *[IMAGE] * 8]))
    np.testing.assert_array_equal(short.row, long.row)


def test_a_missing_frame_is_told():
    with pytest.raises(ValueError, match=r"7 media placeholder\(s\) and the 1 item\(s\) take \[8\]; write one"):
        frames_row(array([IMAGE] * 7), None, plans(ORIGINAL, Item("video", 8)), ORIGINAL)


def test_a_token_stands_for_every_place_of_its_kind():
    items = plans(PORT, Item("image", 1), Item("video", 8))
    found = tokens_row(array([1, *[32] * 4, 2, *[33] * 40]), None, items, ["image", "video"], PORT)
    assert found.table.tolist() == [TEXT, *[PICTURE] * 4, TEXT, *[FRAME] * 40]
    assert found.row.tolist() == [1, *range(4), 2, *range(40)]


@pytest.mark.parametrize(
    ("ids", "kinds", "said"),
    [
        ([33] * 39, ["video"], "0 <image>, 39 <video>; expected, in this order, 40 <video>"),
        (
            [*[33] * 40, *[32] * 4],
            ["image", "video"],
            "expected, in this order, 4 <image>, then 40 <video>",
        ),
        ([32], [], "expected, in this order, none"),
    ],
)
def test_tokens_that_are_not_the_items_are_refused(ids, kinds, said):
    items = plans(PORT, *(Item(kind, 8 if kind == "video" else 1) for kind in kinds))
    with pytest.raises(ValueError, match=said):
        tokens_row(array(ids), None, items, kinds, PORT)
