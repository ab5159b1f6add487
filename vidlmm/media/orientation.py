"""A decoded frame as the upright picture that a player would show."""

import struct
from collections.abc import Mapping
from typing import cast

from av.sidedata.sidedata import SideData, Type
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from PIL import Image

# Signs of (a, b, c, d) of the display matrix; a pixel (x, y) is shown at (ax + cy, bx + dy).
_TURNS = {
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,  # a phone held upright: a quarter turn clockwise
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
# What GIFs decode to is RGB already. Pillow drops the fourth byte, as swscale does.
_PACKED = {"bgra": "BGRX"}
_SIDEWAYS = (
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
)


def turn(frame: VideoFrame) -> Image.Transpose | None:
    """What has to be done to the stored picture; None where it is shown as stored.

    Only quarter turns and mirrors are honoured, as every camera writes them; a matrix with any other
    angle counts as none.
    """
    data = cast(Mapping[Type, SideData], frame.side_data).get(Type.DISPLAYMATRIX)
    if data is None or data.buffer_size < 36:
        return None
    a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
    return _TURNS.get((_sign(a), _sign(b), _sign(c), _sign(d)))


def _sign(value: int) -> int:
    # 16.16 fixed point; what is under a thousandth is rounding.
    return 0 if abs(value) < 65 else (1 if value > 0 else -1)


def shown_size(frame: VideoFrame) -> tuple[int, int]:
    """Width and height of the upright picture, in pixels."""
    sideways = turn(frame) in _SIDEWAYS
    return (frame.height, frame.width) if sideways else (frame.width, frame.height)


class Converter:
    """Frames of one video into RGB pictures at their stored size, upright.

    Pixels are those of swscale's plain conversion with the stream's own matrix and range, as in decord
    and OpenCV. Non-square pixels stay as they are stored, also as there.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._turns: list[Image.Transpose | None] = []

    def __call__(self, frame: VideoFrame) -> Image.Image:
        layout = _PACKED.get(frame.format.name)
        packed = frame if layout else self._reformatter.reformat(frame, format="rgb24", threads=1)
        plane = packed.planes[0]
        size, stored = (packed.width, packed.height), cast(memoryview, plane)
        image = Image.frombytes("RGB", size, stored, "raw", layout or "RGB", plane.line_size, 1)
        if not self._turns:  # it belongs to the stream: the first frame tells for all
            self._turns.append(turn(frame))
        how = self._turns[0]
        return image if how is None else image.transpose(how)
