"""Where the tokens of a picture stand: one view, tiles, tiles made smaller; counts of the released code."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.layout.specs import spec
from vidlmm.layout import Plan, Special, Table, draw, image_plan
from vidlmm.layout.image import mosaic, resampled, unpadded
from vidlmm.spec import ConnectorSpec, ModelSpec, PixelSpec, SlowFastSpec
from vidlmm.spec.pixels import best_resolution

RELEASED = ModelSpec(
    name="released",
    connector=ConnectorSpec(newline="one_token", unpooled_images=True, anyres_max=9),
    pixels=PixelSpec(tiles=6),
)


def tiled(grid: int = 3, tiles: int = 2, **connector) -> ModelSpec:
    """Pictures of grid x grid patches a view, on canvases of up to tiles x tiles views."""
    small = spec(grid, pool_mode="average", unpooled_images=True, **connector)
    return replace(small, pixels=PixelSpec(size=grid * 2, tiles=tiles))


def views(size: tuple[int, int], system: ModelSpec) -> int:
    width, height = best_resolution(size, system.pixels.pinpoints)
    return 1 + width * height // system.tower.image_size**2


def counts(plan: Plan) -> tuple[int, int]:
    """Places that show something seen, and newlines."""
    return int((plan.table >= Table.VISUAL).sum()), int((plan.table == Table.SPECIAL).sum())


def test_a_picture_is_pooled_like_one_frame_where_the_spec_knows_pooled_pictures_only():
    assert draw(image_plan(spec(5, pool_mode="average", newline="grid"))) == "0 SSn\n  SSn"


@pytest.mark.parametrize(("merge", "end"), [("spatial_unpad", "n"), ("spatial", ""), ("flat", "")])
@pytest.mark.parametrize("newline", ["grid", "no_token"])
def test_an_unpooled_picture_shows_all_patches_and_one_newline_where_pictures_have_them(merge, end, newline):
    small = spec(3, pool_mode="average", newline=newline, unpooled_images=True, patch_merge=merge)
    assert draw(image_plan(small)) == f"0 FFF\n  FFF\n  FFF{end}"


def test_an_unpooled_picture_of_the_released_size_takes_729_patches_and_a_newline():
    released = ModelSpec(name="released", connector=ConnectorSpec(slowfast=SlowFastSpec(), unpooled_images=True))
    plan = image_plan(released)
    assert (len(plan), plan.frames, [table.rows for table in plan.tables]) == (730, 1, [196, 49, 729])
    np.testing.assert_array_equal(plan.table[:-1], Table.VISUAL + 2)


def test_tiles_stand_side_by_side_after_the_whole_picture():
    wide = image_plan(tiled(), views((12, 6), tiled()), (12, 6))
    assert draw(wide) == "\n".join(["0 FFF", "  FFF", "  FFF", "1 FFFFFFn", "  FFFFFFn", "  FFFFFFn"])
    np.testing.assert_array_equal(wide.row[9:15], [9, 10, 11, 18, 19, 20])


def test_the_canvas_is_cut_to_the_picture():
    tall = tiled(
        4, 2
    )  # views of 8 pixels; 9 x 16 pixels go on a canvas of 2 x 2 views and leave 3 columns at each side
    plan = image_plan(tall, views((9, 16), tall), (9, 16))
    assert plan.frames == 5
    kept = plan.row[16:].reshape(8, -1)
    assert kept.shape == (8, 5) and (kept[:, -1] == Special.NEWLINE).all()
    np.testing.assert_array_equal(kept[0, :-1], [18, 19, 32, 33])


def test_flat_pictures_show_one_view_after_the_other():
    flat = tiled(patch_merge="flat", newline="no_token")
    plan = image_plan(flat, 3, (12, 6))
    np.testing.assert_array_equal(plan.row, np.arange(27))


def test_spatial_pictures_have_tiles_side_by_side_without_newlines():
    spatial = tiled(patch_merge="spatial", newline="no_token")
    assert draw(image_plan(spatial, 3, (12, 6))).splitlines()[3:] == ["1 FFFFFF", "  FFFFFF", "  FFFFFF"]


def test_counts_of_the_released_sizes(goldens: Path):
    table = json.loads((goldens / "llava_video/13_preprocess/case.json").read_text())["anyres_max_9_real_384"]
    for entry in table:
        size = tuple(entry["size_wh"])
        plan = image_plan(RELEASED, views(size, RELEASED), size)
        height, width = entry["final_hw"]
        assert (len(plan), counts(plan)) == (entry["tokens"], (729 + height * width, height)), size
        mixed = entry["final_hw"] != entry["unpadded_hw"]
        assert len(plan.shows.blends) == (height * width if mixed else 0)
        assert (plan.table == Table.VISUAL + 2).sum() == len(plan.shows.blends)


def test_a_smaller_grid_is_a_weighted_mean_of_neighbours():
    grid = mosaic(2, 1, 4)
    values = np.zeros(3 * 16)
    values[grid] = np.add.outer(10 * np.arange(4), np.arange(8))  # linear in both directions
    blends = resampled(grid, (2, 3))
    np.testing.assert_allclose(blends.weights.sum(1), 1, rtol=1e-6)
    found = (values[blends.taps] * blends.weights).sum(1).reshape(2, 3)
    expected = np.add.outer(10 * ((np.arange(2) + 0.5) * 2 - 0.5), (np.arange(3) + 0.5) * 8 / 3 - 0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_grid_of_the_same_size_is_itself():
    grid = mosaic(1, 2, 3)
    blends = resampled(grid, (6, 3))
    np.testing.assert_array_equal((blends.taps * blends.weights).sum(1), grid.ravel())


@pytest.mark.parametrize(("size", "shape"), [((100, 100), (6, 6)), ((200, 100), (4, 6)), ((100, 200), (6, 4))])
def test_borders_are_cut_on_both_sides_alike(size, shape):
    # int(3.0) = 3 rows are left, and borders of (6 - 3) // 2 = 1 leave 4.
    assert unpadded(mosaic(2, 2, 3), size).shape == shape


def test_other_canvases_can_be_given():
    system = replace(tiled(), pixels=PixelSpec(size=6, canvases=((6, 18),)))
    assert draw(image_plan(system, 4, (6, 18))).count("n") == 9


@pytest.mark.parametrize(
    ("system", "shown", "message"),
    [
        (tiled(), 4, "goes on a canvas of 2 x 1 tiles and takes 3 views, got 4"),
        (spec(3, pool_mode="average"), 3, "is one view, got 3"),
    ],
)
def test_tiles_that_do_not_belong_to_the_picture_are_refused(system, shown, message):
    with pytest.raises(ValueError, match=message):
        image_plan(system, shown, (12, 6))
