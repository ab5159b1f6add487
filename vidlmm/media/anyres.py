"""One picture as several views: the whole of it, and tiles of a larger canvas (anyres).

How many tokens the views give is layout's business; which canvas is chosen stands in spec/pixels.py.
"""

import math

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vidlmm.media.pixels import as_rgb
from vidlmm.spec import PixelSpec
from vidlmm.spec.pixels import best_resolution


def anyres_views(image: Image.Image | UInt8[np.ndarray, "H W 3"], spec: PixelSpec) -> UInt8[np.ndarray, "V S S 3"]:
    """The picture squashed to `spec.size`, then the tiles of its best canvas row by row, uint8 RGB.

    LLaVA-NeXT, mm_utils.py, process_anyres_image.

    Raises:
        ValueError: `spec.tiles` is 0, so there is no canvas.
    """
    picture = as_rgb(image)
    width, height = best_resolution(picture.size, spec.pinpoints)
    canvas = np.asarray(on_canvas(picture, (width, height)))
    rows, columns = height // spec.size, width // spec.size
    tiles = canvas.reshape(rows, spec.size, columns, spec.size, 3).swapaxes(1, 2)
    whole = np.asarray(picture.resize((spec.size, spec.size), Image.Resampling.BICUBIC))
    return np.concatenate([whole[None], tiles.reshape(-1, spec.size, spec.size, 3)])


def on_canvas(image: Image.Image, canvas: tuple[int, int]) -> Image.Image:
    """The picture scaled to fit a black canvas of (width, height) pixels and centred on it."""
    width, height = image.size
    canvas_width, canvas_height = canvas
    scale_width, scale_height = canvas_width / width, canvas_height / height
    if scale_width < scale_height:
        fitted = canvas_width, min(math.ceil(height * scale_width), canvas_height)
    else:
        fitted = min(math.ceil(width * scale_height), canvas_width), canvas_height
    result = Image.new("RGB", canvas, (0, 0, 0))
    offset = (canvas_width - fitted[0]) // 2, (canvas_height - fitted[1]) // 2
    result.paste(image.resize(fitted, Image.Resampling.BICUBIC), offset)
    return result
