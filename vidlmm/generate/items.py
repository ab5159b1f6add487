"""Preprocessed media and token ids with placeholders into what the model reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from vidlmm.generate.answers import Prompt
from vidlmm.layout import Item, lay_out
from vidlmm.layout.row import PLACEHOLDERS
from vidlmm.media.pixels import normalise
from vidlmm.spec import ModelSpec, PixelSpec

Pixels = Float32[np.ndarray, "_ _ _ 3"]


@dataclass(frozen=True, eq=False)
class Video:
    """pixels: [F, H, W, 3], normalised floats (uint8 is normalised here).

    audio: [T, mel], the filter bank of its sound; None where it has none or is not heard.
    """

    pixels: Any
    audio: Any = None


@dataclass(frozen=True, eq=False)
class Image:
    """views: [N, H, W, 3], normalised floats: the whole picture, and after it the tiles of its canvas where it has any.

    size_wh: width and height of the picture in pixels before it was cut; needed with tiles.
    """

    views: Any
    size_wh: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class Audio:
    """fbank: [T, mel], as Kaldi gives it, not normalised."""

    fbank: Any


Medium = Video | Image | Audio


def prompt_of(input_ids: Any, media: Sequence[Medium], spec: ModelSpec, id: str = "0") -> Prompt:
    """What the model reads for token ids [L] with placeholders, and the media they stand for in order.

    Raises:
        ValueError: ids or media of other shapes, or numbers of them that do not belong together.
        TypeError: a medium of another kind.
    """
    ids = np.asarray(input_ids)
    if ids.ndim != 1 or not len(ids) or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"input_ids are {ids.dtype}{list(ids.shape)}; expected whole numbers [L] of one sequence")
    ids = ids.astype(np.int32)
    _check_ids(ids, spec)
    frames, pictures, sounds, items = [], [], [], []
    for number, medium in enumerate(media):
        seen, heard, item = taken(number, medium, spec)
        items.append(item)
        (pictures if spec.image_tower is not None and item.kind == "image" else frames).append(seen)
        sounds += heard
    row = lay_out(ids, None, items, spec)
    apart = spec.image_pixels or spec.pixels
    return Prompt(row, _joined(frames, spec.pixels), id, 0, _joined(pictures, apart), tuple(sounds))


def taken(number: int, medium: Medium, spec: ModelSpec) -> tuple[Pixels, list[np.ndarray], Item]:
    """Pixels, sounds and the item of medium number `number`; see `prompt_of`."""
    name = f"media[{number}]"
    if isinstance(medium, Audio):
        bank = _bank(medium.fbank, name, spec)
        return _joined([], spec.pixels), [bank], Item("audio", sound=len(bank))
    if isinstance(medium, Image):
        views = _pixels(medium.views, name, spec.image_pixels or spec.pixels)
        width, height = medium.size_wh
        return views, [], Item("image", len(views), (int(width), int(height)))
    if isinstance(medium, Video):
        pixels = _pixels(medium.pixels, name, spec.pixels)
        banks = [] if medium.audio is None else [_bank(medium.audio, name, spec)]
        return pixels, banks, Item("video", len(pixels), sound=len(banks[0]) if banks else 0)
    raise TypeError(f"{name} is {type(medium).__name__}; expected Video, Image or Audio")


def _pixels(given: Any, name: str, spec: PixelSpec) -> Pixels:
    array = np.asarray(given)
    if array.ndim != 4 or array.shape[1:] != (spec.size, spec.size, 3) or not len(array):
        raise ValueError(
            f"{name} has pixels of shape {list(array.shape)}; expected [n, {spec.size}, {spec.size}, 3], n at least 1"
        )
    return normalise(array, spec) if array.dtype == np.uint8 else array.astype(np.float32)


def _bank(given: Any, name: str, spec: ModelSpec) -> Float32[np.ndarray, "T mel"]:
    array = np.asarray(given)
    bins = spec.audio.mel if spec.audio else array.shape[-1]
    if array.ndim != 2 or array.shape[1] != bins:
        raise ValueError(f"{name} has a filter bank of shape {list(array.shape)}; expected [T, {bins}]")
    return array.astype(np.float32)


def _joined(clips: Sequence[Pixels], spec: PixelSpec) -> Pixels:
    return np.concatenate(clips) if clips else np.zeros((0, spec.size, spec.size, 3), np.float32)


def _check_ids(ids: Int32[np.ndarray, " L"], spec: ModelSpec) -> None:
    known = {id for _, id in spec.special_tokens}
    wrong = [
        id for id in ids.tolist() if id not in PLACEHOLDERS and id not in known and not 0 <= id < spec.decoder.vocab
    ]
    if wrong:
        raise ValueError(
            f"input_ids hold {wrong[0]}; expected tokens 0 to {spec.decoder.vocab - 1} and placeholders {PLACEHOLDERS}"
        )
