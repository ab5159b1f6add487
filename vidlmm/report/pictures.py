"""Frames into pictures that a page carries itself."""

import base64
import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def pick_frames(count: int, most: int) -> list[int]:
    """Indices of at most `most` frames, spread evenly, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return np.linspace(0, count - 1, most).round().astype(int).tolist()


def data_uri(frame: UInt8[np.ndarray, "H W 3"], longest: int = 160) -> str:
    """A frame as a PNG inside a URI.

    Args:
        longest: length of the long side in pixels; larger frames are made smaller.
    """
    image = Image.fromarray(frame)
    if max(image.size) > longest:
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
