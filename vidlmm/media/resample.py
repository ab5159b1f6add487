"""Resizing of float pixels along one axis, as PyTorch's interpolate does it (align_corners False).

Pillow resizes uint8 and rounds between its two passes; the systems that resize float pixels need this instead.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int64

from vidlmm.spec.pixels import Filter


def resample(
    pixels: Float32[np.ndarray, "A B 3"],
    axis: int,
    length: int,
    keep: Sequence[int],
    filter: Filter,
    *,
    antialias: bool = False,
) -> Float32[np.ndarray, "A2 B2 3"]:
    """`pixels` with `axis` resized to `length`, of which only the positions `keep` are made.

    Without antialiasing every result mixes 2 (bilinear) or 4 (bicubic, a = -0.75) neighbours, however much
    the picture shrinks; with it the filter (bicubic a = -0.5) widens with the scale, as in Pillow.
    """
    taps = _wide_taps if antialias else _near_taps
    index, weight = taps(pixels.shape[axis], length, np.asarray(keep, np.int64), filter)
    moved = np.moveaxis(pixels, axis, 0)
    out = np.zeros((len(keep), *moved.shape[1:]), np.float32)
    for tap in range(index.shape[1]):
        out += moved[index[:, tap]] * weight[:, tap].astype(np.float32)[:, None, None]
    return np.moveaxis(out, 0, axis)


def _near_taps(
    source: int, target: int, keep: Int64[np.ndarray, "n"], filter: Filter
) -> tuple[Int64[np.ndarray, "n k"], Float64[np.ndarray, "n k"]]:
    # Positions in float32, as the original computes them: at a few hundred pixels the difference shows.
    scale = np.float32(source) / np.float32(target)
    centre = scale * (keep.astype(np.float32) + np.float32(0.5)) - np.float32(0.5)
    if filter == "bilinear":
        centre = np.maximum(centre, np.float32(0))
    first = np.minimum(np.floor(centre).astype(np.int64), source - 1)
    share = np.clip(centre - first.astype(np.float32), 0, 1).astype(np.float64)
    if filter == "bilinear":
        reach = np.array([0, 1])
        weight = np.stack([1 - share, share], axis=1)
    else:
        reach = np.array([-1, 0, 1, 2])
        weight = _cubic(np.abs(share[:, None] - reach), -0.75)
    return np.clip(first[:, None] + reach, 0, source - 1), weight


def _wide_taps(
    source: int, target: int, keep: Int64[np.ndarray, "n"], filter: Filter
) -> tuple[Int64[np.ndarray, "n k"], Float64[np.ndarray, "n k"]]:
    scale = source / target
    stretch = max(scale, 1.0)
    radius = (1.0 if filter == "bilinear" else 2.0) * stretch
    centre = scale * (keep + 0.5)
    low = np.maximum((centre - radius + 0.5).astype(np.int64), 0)
    high = np.minimum((centre + radius + 0.5).astype(np.int64), source)
    index = low[:, None] + np.arange(int(np.max(high - low)))
    distance = np.abs(index - centre[:, None] + 0.5) / stretch
    weight = np.maximum(1 - distance, 0) if filter == "bilinear" else _cubic(distance, -0.5)
    weight = np.where(index < high[:, None], weight, 0)
    return np.minimum(index, source - 1), weight / weight.sum(axis=1, keepdims=True)


def _cubic(distance: Float64[np.ndarray, "n k"], a: float) -> Float64[np.ndarray, "n k"]:
    """Keys' cubic convolution kernel at distances of 0 or more."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * a
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))
