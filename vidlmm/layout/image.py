"""The layout of a picture: one view, or anyres views.

LLaVA-NeXT does not pool pictures (llava/model/llava_arch.py:350-413). One view shows all its patches
and one newline after them. Several views are the whole picture and the tiles of a larger canvas
(mm_utils.py:119-293): the whole picture's patches come first and without newline, then the patches of
all tiles as one grid, without the canvas's empty border, with a newline after every row:

    view 0    views 1..4 of a wide picture on a canvas of 2 x 2 tiles
    PPP       . . . . . .        the border is cut off,
    PPP       P P P P P P n      every row that is left ends with a newline
    PPP       P P P P P P n
              . . . . . .

A grid of more than 1.1^2 * N views (anyres_max_N) is resampled bilinearly to a smaller one; its rows
are blends of four patches.

Specs whose pictures are pooled show a picture as a video of one frame; systems with clips show it as
a clip; systems with a tower for pictures show all that this tower gives.
"""

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Int32

from vidlmm.layout.plan import Piece, Plan, Special, frame_cells, join, special, visual, with_newlines
from vidlmm.layout.shows import Blends, Shows
from vidlmm.layout.video import clip_plan, frame_tables, has_clips, video_plan
from vidlmm.spec import ModelSpec
from vidlmm.spec.connector import Unpadding
from vidlmm.spec.pixels import best_resolution

Grid = Int32[np.ndarray, "_ _"]
# Tiles may exceed the allowed number of views by so much on each axis before they are made smaller.
SLACK = 1.1


def image_plan(spec: ModelSpec, views: int = 1, size: tuple[int, int] = (0, 0)) -> Plan:
    """The places of one picture.

    Args:
        views: frames that the picture brings: 1, or 1 and the tiles of its canvas.
        size: its width and height in pixels before anything was done to it; read where there are tiles.

    Raises:
        ValueError: tiles in a system without them, or as many as no canvas for this size has; see also `video_plan`.
    """
    if spec.image_tower is not None or has_clips(spec) or not spec.connector.unpooled_images:
        if views != 1:
            raise ValueError(f"a picture of {spec.name} is one view, got {views}; its pictures have no tiles")
        return _own_tower(spec) if spec.image_tower is not None else _as_video(spec)
    tables = frame_tables(spec)
    level = spec.connector.strides.index(1)
    side = spec.tower.grid
    whole = frame_cells(0, level, side, newlines=False)
    if views == 1:
        ends = [special(Special.NEWLINE)] if spec.connector.patch_merge == "spatial_unpad" else []
        return Plan(*join([whole, *ends]), tables, Shows(frames=1))
    if spec.connector.patch_merge == "flat":
        return Plan(*visual(level, range(views * side * side)), tables, Shows(frames=views))
    tiles, blends = _tiles(spec, level, views, size)
    return Plan(*join([whole, tiles]), tables, Shows(frames=views, blends=blends))


def _tiles(spec: ModelSpec, level: int, views: int, size: tuple[int, int]) -> tuple[Piece, Blends]:
    """All tiles as one grid, and what is mixed where it is made smaller."""
    width, height = best_resolution(size, spec.pixels.pinpoints)
    columns, rows = width // spec.tower.image_size, height // spec.tower.image_size
    if columns * rows != views - 1:
        raise ValueError(
            f"a picture of {size[0]} x {size[1]} pixels goes on a canvas of {columns} x {rows} tiles and takes "
            f"{columns * rows + 1} views, got {views}; give size_wh the picture's size before it was cut"
        )
    grid = mosaic(columns, rows, spec.tower.grid)
    if spec.connector.patch_merge == "spatial":
        return visual(level, grid), Blends()
    grid = unpadded(grid, size, spec.connector.unpadding)
    smaller = shrunk(grid.shape[0], grid.shape[1], spec.tower.grid, spec.connector.anyres_max)
    if smaller == grid.shape:
        return with_newlines(visual(level, grid), grid.shape[1]), Blends()
    number = [table.unit for table in spec.tables()].index("blend")
    return with_newlines(visual(number, range(smaller[0] * smaller[1])), smaller[1]), resampled(grid, smaller)


def mosaic(columns: int, rows: int, side: int) -> Grid:
    """The patches of all tiles as they lie on the canvas, as rows of the frames' table; tiles are frames 1, 2, ..."""
    cells = np.arange(1, rows * columns + 1).reshape(rows, 1, columns, 1) * side * side
    cells = cells + np.arange(side * side).reshape(1, side, 1, side)
    return cells.reshape(rows * side, columns * side).astype(np.int32)


def unpadded(grid: Grid, size: tuple[int, int], unpadding: Unpadding = "floor") -> Grid:
    """The grid without the border that a picture of `size` (width, height) leaves empty on its canvas.

    LLaVA-NeXT mm_utils.py:127-159; transformers modeling_llava_onevision.py:247-256 rounds.
    """
    height, width = grid.shape
    if size[0] / size[1] > width / height:
        border = (height - _whole(size[1] * (width / size[0]), unpadding)) // 2
        return grid[border : height - border]
    border = (width - _whole(size[0] * (height / size[1]), unpadding)) // 2
    return grid[:, border : width - border]


def _whole(length: float, unpadding: Unpadding) -> int:
    return int(round(length, 7) if unpadding == "rounded" else length)


def shrunk(height: int, width: int, side: int, most: int) -> tuple[int, int]:
    """Height and width of the grid of at most about `most` views that is shown; 0 views set no bound."""
    times = math.sqrt(height * width / (most * side**2)) if most else 0.0
    return (int(height // times), int(width // times)) if times > SLACK else (height, width)


def resampled(grid: Grid, size: tuple[int, int]) -> Blends:
    """The rows of a grid resampled bilinearly to `size` (height, width), without aligned corners or antialiasing.

    Raises:
        ValueError: nothing would be left of an axis.
    """
    if min(size) < 1:
        raise ValueError(f"a grid of {grid.shape[0]} x {grid.shape[1]} patches cannot become {size[0]} x {size[1]}")
    (top, bottom, down), (left, right, across) = (_taps(old, new) for old, new in zip(grid.shape, size, strict=True))
    taps = [grid[np.ix_(y, x)] for y in (top, bottom) for x in (left, right)]
    shares = [np.multiply.outer(v, h) for v in (1 - down, down) for h in (1 - across, across)]
    return Blends(np.stack(taps, -1).reshape(-1, 4), np.stack(shares, -1).reshape(-1, 4).astype(np.float32))


def _taps(old: int, new: int) -> tuple[Int32[np.ndarray, " n"], Int32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """Two neighbours of each new point on one axis, and the share of the second."""
    scale = np.float32(old) / np.float32(new)
    source = np.maximum(scale * (np.arange(new, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), 0)
    low = np.minimum(source.astype(np.int32), old - 1)
    return low, np.minimum(low + 1, old - 1), (source - low).astype(np.float32)


def _own_tower(spec: ModelSpec) -> Plan:
    """All rows of the picture tower's table."""
    tables = spec.tables()
    number = [table.unit for table in tables].index("picture")
    return Plan(*visual(number, range(tables[number].rows)), tables, Shows(pictures=1))


def _as_video(spec: ModelSpec) -> Plan:
    """A video of one frame; VideoLLaMA 2 repeats it as often as a video has frames (videollama2_arch.py:118-121)."""
    if spec.connector.stc is not None or spec.connector.temporal == "mean":
        return clip_plan((0,) * max(spec.frames.count, 1), 1, spec)
    # What action heads read follows videos alone.
    return video_plan(1, replace(spec, action=None))
