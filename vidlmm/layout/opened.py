"""Media that were opened into what plans and buffers need of them."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from vidlmm.layout.batch import Media, Pixels
from vidlmm.layout.item import Item
from vidlmm.spec import ModelSpec, PixelSpec


@runtime_checkable
class Opened(Protocol):
    """A medium with its pixels and sound (`vidlmm.media.shown.Shown`)."""

    @property
    def kind(self) -> Literal["video", "image", "audio"]: ...
    @property
    def frames(self) -> Any: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def sound(self) -> Any: ...


def items_of(media: Sequence[Opened]) -> list[Item]:
    """What the media are without their pixels, in the same order."""
    return [Item(one.kind, len(one.frames), one.size, 0 if one.sound is None else len(one.sound)) for one in media]


def stack(media: Sequence[Opened], spec: ModelSpec) -> Media:
    """Everything that is shown, one after the other; no frames at all are frames of the system's size and type."""
    apart = spec.image_tower is not None
    pictures = [one.frames for one in media if apart and one.kind == "image"]
    frames = [one.frames for one in media if not (apart and one.kind == "image") and len(one.frames)]
    sounds = tuple(one.sound for one in media if one.sound is not None)
    return Media(_joined(frames, spec.pixels), _joined(pictures, spec.image_pixels or spec.pixels), sounds)


def _joined(clips: Sequence[Pixels], pixels: PixelSpec) -> Pixels:
    if clips:
        return np.concatenate(clips)
    return np.zeros((0, pixels.size, pixels.size, 3), np.float32 if pixels.normalise_first else np.uint8)
