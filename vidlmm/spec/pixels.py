"""How a decoded picture becomes the tower's input."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Fit = Literal[
    "squash",  # straight to size x size, aspect ratio given up (SigLIP)
    "shortest_crop",  # shortest side to `resize`, then centre crop (CLIP, Valley, Hound)
]
Filter = Literal["bicubic", "bilinear"]
Rounding = Literal[
    "transformers",  # long side int(size * long / short), crop offset floor(d / 2): CLIP processors
    "torchvision",  # the same long side, crop offset round(d / 2), half to even: Valley, Video-LLaVA images
    "pytorchvideo",  # long side floor((long / short) * size), crop offset round(d / 2): Hound video
]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class PixelSpec:
    """Resize, crop, pad and normalisation of one system.

    size: side of the square the tower sees, in pixels.
    resize: length of the short side before a centre crop, in pixels; 0 means `size`.
    rounding: whose arithmetic gives the long side and the crop's offsets; no matter under `squash`.
    pad: "square" pads the picture to a square with int(255 * mean) first, "none" does not.
    normalise_first: normalise float pixels before they are resized, without antialiasing
        (Hound video, Video-LLaVA images); such frames cannot travel as uint8.
    antialias: under `normalise_first`, resize with antialiasing as newer torchvision does.
    tiles: a single picture (never a frame) is also shown in up to tiles x tiles tiles (anyres);
        0 means one view. The released LLaVA models have 6.
    canvases: (width, height) in pixels of the canvases that the tiles are cut from, where they are other ones.

    Raises:
        ValueError: a size that is not positive, or a short side smaller than the crop.
    """

    size: int = 384
    fit: Fit = "squash"
    filter: Filter = "bicubic"
    resize: int = 0
    rounding: Rounding = "transformers"
    pad: Literal["none", "square"] = "none"
    normalise_first: bool = False
    antialias: bool = False
    tiles: int = 0
    canvases: tuple[tuple[int, int], ...] = ()
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if self.size < 1 or self.tiles < 0:
            raise ValueError(f"pixels.size is {self.size} (expected 1 or more), pixels.tiles {self.tiles} (0 or more)")
        if self.resize and self.resize < self.size:
            raise ValueError(
                f"pixels.resize is {self.resize}, smaller than the crop pixels.size {self.size}; "
                "give the short side at least the crop's length, or 0"
            )

    @property
    def pinpoints(self) -> tuple[tuple[int, int], ...]:
        """Canvases (width, height) in pixels that anyres may choose, in the released order."""
        if self.canvases:
            return self.canvases
        sides = [self.size * count for count in range(1, self.tiles + 1)]
        return tuple((width, height) for width in sides for height in sides)


def best_resolution(size: tuple[int, int], canvases: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The canvas (width, height) that keeps most of a picture of `size` (width, height), in pixels.

    Most kept pixels win, then least empty canvas, then the first listed: the order matters.
    LLaVA-NeXT, mm_utils.py, select_best_resolution.

    Raises:
        ValueError: no canvas given, or a picture without pixels.
    """
    width, height = size
    if width < 1 or height < 1:
        raise ValueError(f"a picture of {width} x {height} pixels has no best canvas; expected sides of 1 or more")
    best: tuple[int, int] | None = None
    best_kept, least_empty = 0, 0
    for canvas_width, canvas_height in canvases:
        scale = min(canvas_width / width, canvas_height / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        empty = canvas_width * canvas_height - kept
        if best is None or kept > best_kept or (kept == best_kept and empty < least_empty):
            best, best_kept, least_empty = (canvas_width, canvas_height), kept, empty
    if best is None:
        raise ValueError("no canvas to choose from; set pixels.tiles to 1 or more")
    return best
