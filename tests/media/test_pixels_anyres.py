"""Views of single pictures equal those of the original."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.media.golden_case import Case, blocks
from vidlmm.media.anyres import anyres_views, on_canvas
from vidlmm.media.pixels import normalise
from vidlmm.spec import PixelSpec
from vidlmm.spec.pixels import best_resolution

TINY = PixelSpec(size=126, tiles=3)


def test_best_canvases(goldens: Path) -> None:
    case = Case(goldens / "llava_video/13_preprocess").text
    assert [list(canvas) for canvas in TINY.pinpoints] == case["settings"]["image_grid_pinpoints_tiny"]
    for entry in case["anyres_tiny"]:
        assert list(best_resolution(tuple(entry["size_wh"]), TINY.pinpoints)) == entry["best_resolution_wh"]
    released = PixelSpec(tiles=6)
    for entry in case["anyres_max_9_real_384"]:
        assert list(best_resolution(tuple(entry["size_wh"]), released.pinpoints)) == entry["best_resolution_wh"]


@pytest.mark.parametrize(("index", "height", "width"), [(0, 150, 230), (1, 100, 400)])
def test_views(goldens: Path, index: int, height: int, width: int) -> None:
    case = Case(goldens / "llava_video/13_preprocess")
    picture = blocks(1, f"image_{index}", height, width)
    canvas = best_resolution((width, height), TINY.pinpoints)
    padded = np.asarray(on_canvas(Image.fromarray(picture), canvas))
    assert case.difference(f"anyres_padded_{index}", padded) == 0
    views = normalise(anyres_views(picture, TINY), TINY)
    case.assert_close(f"anyres_views_{index}", views.transpose(0, 3, 1, 2))


def test_without_tiles_there_is_no_canvas() -> None:
    with pytest.raises(ValueError, match=r"pixels\.tiles"):
        anyres_views(np.zeros((4, 4, 3), np.uint8), PixelSpec(size=8))
    with pytest.raises(ValueError, match="0 x 4"):
        best_resolution((0, 4), TINY.pinpoints)
