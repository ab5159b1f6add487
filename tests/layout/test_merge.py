"""Text and media in one sequence: the released code's lengths and labels, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.layout.specs import ids, sequence, spec
from vidlmm.layout import Table, draw, merge, truncate, video_plan
from vidlmm.layout.row import AUDIO, IGNORE, IMAGE, VIDEO
from vidlmm.spec import ConnectorSpec, ModelSpec, SlowFastSpec, TowerSpec

# Fields of the reference cases that LLaVA-NeXT's own code produced.
CASES = json.loads((Path(__file__).parent / "llava_video_merges.json").read_text())


def case_spec(case: dict) -> ModelSpec:
    config = case["config"]
    return ModelSpec(
        name="case",
        tower=TowerSpec(image_size=case["image_size"], patch_size=case["patch_size"]),
        connector=ConnectorSpec(
            pool_mode=config["mm_spatial_pool_mode"],
            pool_stride=config["mm_spatial_pool_stride"],
            newline=config["mm_newline_position"],
            slowfast=SlowFastSpec(config["faster_token_stride"]) if config["add_faster_video"] else None,
        ),
    )


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "merged_length" in case])
def test_merged_length_is_that_of_the_original(name):
    case = CASES[name]
    tokens = ids(*case["input_ids"])
    row = merge(tokens, None, [video_plan(case["frames"], case_spec(case))])
    assert len(row) == case["merged_length"]
    np.testing.assert_array_equal(row.row[row.table == Table.TEXT], tokens[tokens >= 0])
    assert row.frames == case["frames"]


@pytest.mark.parametrize("number", [0, 1])
def test_labels_are_those_of_the_original(number):
    case = CASES["11_batch_mixed_with_loss"]
    sample = case["rows"][number]
    items = [video_plan(sample["frames"], case_spec(case))] if sample["frames"] else []
    row = merge(ids(*sample["input_ids"]), ids(*sample["labels"]), items)
    assert len(row) == sample["merged_length"]
    # The original shifts inside its loss: place i predicts label i + 1.
    labels = np.array(sample["labels_out"][1:] + [IGNORE])
    np.testing.assert_array_equal(row.weight, labels != IGNORE)
    np.testing.assert_array_equal(row.target[row.weight > 0], labels[labels != IGNORE])


def test_targets_are_the_next_trained_text_tokens():
    small = spec(5, pool_mode="average", newline="no_token")
    given = sequence([9, VIDEO, 4, 5, 6], trained=[0, 2, 4])
    row = merge(given.ids, given.labels, [video_plan(1, small)])
    np.testing.assert_array_equal(row.target, [0, 0, 0, 0, 4, 0, 6, 0])
    np.testing.assert_array_equal(row.weight, [0, 0, 0, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(row.position, np.arange(8))
    assert not row.branch.any()


def test_frames_of_a_second_item_follow_those_of_the_first():
    small = spec(8, pool_mode="average", slowfast=SlowFastSpec(2))  # sides 4 and 2
    row = merge(ids(1, VIDEO, 2, IMAGE, AUDIO, 3), None, [video_plan(n, small) for n in (2, 3, 1)])
    assert row.frames == 6
    frame = row.row[row.table >= Table.VISUAL] // np.array([16, 4])[row.table[row.table >= Table.VISUAL] - 3]
    np.testing.assert_array_equal(np.unique(frame), np.arange(6))
    assert (np.diff(frame) >= 0).all()
    # Frames 0 and 1 of each video are slow and fast; they start anew with each item.
    assert [line[0] for line in draw(row).splitlines() if line[0].isdigit()] == list("012345")
    levels = [row.table[row.table >= Table.VISUAL][frame == f][0] - Table.VISUAL for f in range(6)]
    assert levels == [0, 1, 0, 1, 0, 0]


def test_text_alone_needs_no_media():
    row = merge(ids(7, 8, 9), ids(-100, 8, 9), [])
    np.testing.assert_array_equal(row.target, [8, 9, 0])
    assert row.frames == 0


def test_nothing_gives_an_empty_row():
    assert len(merge(ids(), None, [])) == 0


@pytest.mark.parametrize("count", [0, 2])
def test_another_number_of_items_than_placeholders_is_refused(count):
    with pytest.raises(ValueError, match=rf"1 media placeholder\(s\) and {count} media item"):
        merge(ids(1, VIDEO, 2), None, [video_plan(1, spec())] * count)


def test_items_of_different_grids_are_refused():
    with pytest.raises(ValueError, match="different grids"):
        merge(ids(VIDEO, VIDEO), None, [video_plan(1, spec(5)), video_plan(1, spec(8))])


def test_an_unknown_negative_id_is_refused():
    with pytest.raises(ValueError, match="id -7 at token 1"):
        merge(ids(3, -7), None, [])


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match="2 labels for 3 ids"):
        merge(ids(1, 2, 3), ids(1, 2), [])


def test_shifted_labels_are_refused():
    with pytest.raises(ValueError, match="label 2 at token 0"):
        merge(ids(1, 2, 3), ids(2, 3, -100), [])


def test_truncation_keeps_the_first_places_and_drops_the_prediction_past_the_end():
    given = sequence([1, 2, 3, 4, 5], trained=[2, 3, 4])
    row = truncate(merge(given.ids, given.labels, []), 4)
    np.testing.assert_array_equal(row.row, [1, 2, 3, 4])
    np.testing.assert_array_equal(row.target, [0, 3, 4, 0])
    np.testing.assert_array_equal(row.weight, [0, 1, 1, 0])


def test_a_short_row_is_not_truncated():
    row = merge(ids(1, 2, 3), None, [])
    assert truncate(row, 3) is row


def test_truncation_that_leaves_no_trained_token_is_refused():
    given = sequence([1, 2, 3, 4], trained=[2, 3])
    with pytest.raises(ValueError, match="4 places truncated to 2"):
        truncate(merge(given.ids, given.labels, []), 2)


def test_truncation_to_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1 place"):
        truncate(merge(ids(1, 2), None, []), 0)
