"""A decoded picture into the square that a tower sees, equal to what the original processors make.

Where Pillow resizes, every step is on uint8 and the result travels as uint8; `normalise` says in numpy what
the device does with it. Systems that normalise before they resize give float32 instead (see resample.py).
"""

import math

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from vidlmm.media.resample import resample
from vidlmm.spec import PixelSpec

# Rows times columns of the largest picture made on the way; a strip of one by a million pixels would
# otherwise be padded to a square, or resized to its short side, and fill the memory.
MAX_WORKING_PIXELS = 1 << 26

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def fit_frame(
    image: Image.Image | UInt8[np.ndarray, "H W 3"], spec: PixelSpec
) -> UInt8[np.ndarray, "S S 3"] | Float32[np.ndarray, "S S 3"]:
    """The picture padded, resized and cropped to a square of `spec.size` pixels, RGB.

    Gives uint8, or float32 that is already normalised where `spec.normalise_first`.

    Raises:
        ValueError: sides so unlike that the working picture would pass MAX_WORKING_PIXELS.
    """
    picture = as_rgb(image)
    if spec.pad == "square":
        _check_working(max(picture.size), max(picture.size), picture.size)
        picture = pad_to_square(picture, pad_colour(spec))
    width, height = resized_size(picture.size, spec)
    _check_working(width, max(height, picture.size[1]), picture.size)
    left, top = _offset(width - spec.size, spec), _offset(height - spec.size, spec)
    if spec.normalise_first:
        pixels = normalise(np.asarray(picture), spec)
        cut_rows, cut_columns = range(top, top + spec.size), range(left, left + spec.size)
        tall = resample(pixels, 0, height, cut_rows, spec.filter, antialias=spec.antialias)
        return resample(tall, 1, width, cut_columns, spec.filter, antialias=spec.antialias)
    resized = picture.resize((width, height), _FILTERS[spec.filter])
    return np.asarray(resized.crop((left, top, left + spec.size, top + spec.size)))


def normalise(pixels: UInt8[np.ndarray, "*shape 3"], spec: PixelSpec) -> Float32[np.ndarray, "*shape 3"]:
    """(pixels / 255 - mean) / std in float32: what the device does with frames that travel as uint8."""
    mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
    return (pixels.astype(np.float32) / np.float32(255) - mean) / std


def resized_size(size: tuple[int, int], spec: PixelSpec) -> tuple[int, int]:
    """Width and height in pixels after the resize and before the crop, of a picture of `size` (width, height)."""
    if spec.fit == "squash":
        return spec.size, spec.size
    short = spec.resize or spec.size
    width, height = size
    lower, upper = min(size), max(size)
    # Both round down; they differ where the quotient is not exact.
    exact = (upper / lower) * short if spec.rounding == "pytorchvideo" else short * upper / lower
    long = math.floor(exact)
    return (short, long) if width <= height else (long, short)


def pad_colour(spec: PixelSpec) -> tuple[int, int, int]:
    """int(255 * mean) of each channel: (122, 116, 104) for CLIP, (127, 127, 127) for SigLIP."""
    red, green, blue = (int(mean * 255) for mean in spec.mean)
    return red, green, blue


def pad_to_square(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """The picture in the middle of a square of `colour`; the odd pixel of padding comes last.

    LLaVA-NeXT and VideoLLaMA 2, mm_utils.py, expand2square.
    """
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


def as_rgb(image: Image.Image | UInt8[np.ndarray, "H W 3"]) -> Image.Image:
    """The picture as a Pillow image in RGB; transparency and palettes as Pillow converts them."""
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _offset(surplus: int, spec: PixelSpec) -> int:
    return surplus // 2 if spec.rounding == "transformers" else int(round(surplus / 2.0))


def _check_working(width: int, height: int, size: tuple[int, int]) -> None:
    if width * height > MAX_WORKING_PIXELS:
        raise ValueError(
            f"a picture of {size[0]} x {size[1]} pixels needs a working picture of {width} x {height}, above "
            f"{MAX_WORKING_PIXELS} pixels; crop it first"
        )
