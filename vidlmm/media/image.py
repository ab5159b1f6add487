"""Still pictures from files."""

import os

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from vidlmm.media.errors import Kind, MediaError
from vidlmm.media.limits import DEFAULT_LIMITS, Limits
from vidlmm.media.open import regular_file

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


def read_image(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> UInt8[np.ndarray, "H W 3"]:
    """A picture in RGB, uint8, turned upright where its EXIF data says how; of a GIF the first frame.

    Raises MediaError: "missing", "not_media", "truncated", "too_large".
    """
    name = os.fspath(path)
    location = regular_file(name)
    if os.path.getsize(location) == 0:
        raise MediaError(name, "truncated", "the file is empty")
    try:
        return _decode(name, location, limits)
    except MediaError:
        raise
    except Exception as error:
        raise MediaError(name, *_diagnose(error)) from error


def picture_size(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Width and height that `read_image` gives, from the file's header alone.

    Raises MediaError as `read_image` does, but does not see what is wrong with the pixels.
    """
    name = os.fspath(path)
    location = regular_file(name)
    try:
        with Image.open(location, formats=FORMATS) as image:
            _check_size(name, image.size, limits)
            # EXIF 2.32, tag 0x0112: 5 to 8 are turned by a quarter.
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            width, height = image.size
            return (height, width) if turned else (width, height)
    except MediaError:
        raise
    except Exception as error:
        raise MediaError(name, *_diagnose(error)) from error


def _decode(name: str, location: str, limits: Limits) -> UInt8[np.ndarray, "H W 3"]:
    with Image.open(location, formats=FORMATS) as image:
        _check_size(name, image.size, limits)
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _check_size(name: str, size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_image_pixels:
        limit = limits.max_image_pixels
        raise MediaError(name, "too_large", f"{width} x {height} pixels; at most {limit} pixels are read")


def _diagnose(error: Exception) -> tuple[Kind, str]:
    if isinstance(error, UnidentifiedImageError):
        return "not_media", f"this is no picture in one of the formats {', '.join(FORMATS)}"
    if isinstance(error, MemoryError | Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "too_large", "the picture needs more memory than it may"
    if isinstance(error, OSError) and "truncated" in str(error):
        return "truncated", "the picture's data ends early"
    return "not_media", "the picture's data is damaged"
