"""What a placeholder stands for, without its pixels, and the places that it takes."""

from dataclasses import dataclass
from typing import Literal

from vidlmm.layout.image import image_plan
from vidlmm.layout.plan import Plan, chain, visual
from vidlmm.layout.shows import Shows
from vidlmm.layout.video import video_plan
from vidlmm.spec import ModelSpec


@dataclass(frozen=True)
class Item:
    """A video, a picture or a sound.

    frames: of a video; views of a picture. size: of a picture with several views, its width and height in pixels.
    sound: filter-bank frames of a sound, or of the sound that goes with a video.
    """

    kind: Literal["video", "image", "audio"]
    frames: int = 0
    size: tuple[int, int] = (0, 0)
    sound: int = 0


def item_plan(item: Item, spec: ModelSpec) -> Plan:
    """The places of an item; a video's sound follows its pictures without anything between them
    (VideoLLaMA 2, branch audio_visual, videollama2_arch.py:216-282).

    Raises:
        ValueError: sound in a system that hears none, or what `video_plan` and `image_plan` raise.
    """
    if item.kind == "image":
        return image_plan(spec, item.frames, item.size)
    parts = [] if item.kind == "audio" else [video_plan(item.frames, spec)]
    if item.kind == "audio" or item.sound:
        parts.append(sound_plan(item.sound, spec))
    return chain(parts)


def sound_plan(frames: int, spec: ModelSpec) -> Plan:
    """The places of a sound of `frames` filter-bank frames: all that its tower gives, in the order of time.

    Raises:
        ValueError: a system that hears none, or a sound shorter than one token.
    """
    if spec.audio is None:
        raise ValueError(f"{spec.name} hears no sound; leave it away or take a system with an audio tower")
    tables = spec.tables(sound_length=frames)
    number = [table.unit for table in tables].index("sound")
    if tables[number].rows < 1:
        raise ValueError(f"a sound of {frames} filter-bank frames gives no token, the shortest has {spec.audio.patch}")
    return Plan(*visual(number, range(tables[number].rows)), tables, Shows(sounds=(frames,)))
