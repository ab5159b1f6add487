"""A conversation about some videos and pictures into what generation reads."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vidlmm.generate.answers import Prompt
from vidlmm.layout import Item, Media, item_plan, merge
from vidlmm.layout.batch import Pixels
from vidlmm.media.anyres import anyres_views
from vidlmm.media.image import read_image
from vidlmm.media.limits import DEFAULT_LIMITS, Limits
from vidlmm.media.sampling import time_text
from vidlmm.media.video import load_image, load_video
from vidlmm.spec import ModelSpec, PixelSpec
from vidlmm.text import Tokenizer, Turn, add_time_text, encode_prompt, get_template
from vidlmm.text.messages import tag_pattern

MediaKind = Literal["video", "image"]


@dataclass(frozen=True, eq=False)
class Shown:
    """One video or picture as a system sees it.

    frames: [f, S, S, 3]; a picture is one frame.
    told: the system's sentence about the frames' times; "" for pictures and for systems without one.
    views: [n, S, S, 3], what a picture without other pictures beside it shows in systems with tiles.
    size: width and height of such a picture in pixels.
    """

    kind: MediaKind
    frames: Pixels
    told: str = ""
    views: Pixels | None = None
    size: tuple[int, int] = (0, 0)


def show(kind: str, path: str | os.PathLike[str], spec: ModelSpec, limits: Limits = DEFAULT_LIMITS) -> Shown:
    """Open a video file (or a folder of its frames) or a picture the way a system does.

    Args:
        kind: "video" or "image".

    Raises:
        MediaError: the file does not open.
        ValueError: neither a video nor an image is asked for.
    """
    if kind == "image":
        return _picture(path, spec, limits)
    if kind != "video":
        raise ValueError(f"a medium is a video or an image, got {kind!r}")
    clip = load_video(path, spec.frames, spec.pixels, limits)
    return Shown("video", clip.frames, time_text(spec.frames.time_text, clip.choice))


def make_prompt(
    turns: Sequence[Turn],
    media: Sequence[Shown],
    spec: ModelSpec,
    tokenizer: Tokenizer,
    *,
    id: str = "0",
    sample: int = 0,
) -> Prompt:
    """The prompt of a conversation that ends with a question.

    Args:
        turns: the conversation; every medium has its tag (<video>, <image>) in a user turn, in order.
        media: what the tags stand for.
        id, sample: see `Prompt`.

    Raises:
        ValueError: tags and media that do not match, or turns out of order.
    """
    template = get_template(spec.prompt.template)
    told = tell_times(turns, media, spec)
    ids = encode_prompt(told, template, tokenizer, system=spec.prompt.system)
    alone = sum(one.kind == "image" for one in media) == 1
    shown = [replace(one, frames=one.views) if alone and one.views is not None else one for one in media]
    row = merge(ids, None, [item_plan(Item(one.kind, len(one.frames), one.size), spec) for one in shown])
    seen = stack(shown, spec)
    return Prompt(row, seen.frames, id, sample, seen.pictures)


def tell_times(turns: Sequence[Turn], media: Sequence[Shown], spec: ModelSpec) -> list[Turn]:
    """The turns with each video's sentence after its tag.

    In a turn with one tag the sentence stands as the system's inference code writes it (`vidlmm.text.add_time_text`).
    With several, which no published system has, each tag is followed by a line of its own.

    Raises:
        ValueError: not as many tags as media.
    """
    template = get_template(spec.prompt.template)
    pattern = tag_pattern(template)
    tags = sum(len(pattern.findall(turn.text)) for turn in turns)
    if tags != len(media):
        raise ValueError(
            f"the conversation holds {tags} media tags ({', '.join(tag for tag, _ in template.tags)}) for "
            f"{len(media)} media; write one tag for each"
        )
    place: Literal["none", "llava_video", "llavaction"] = (
        "llavaction" if spec.frames.time_text == "llavaction" else "llava_video"
    )
    left = iter(media)
    written = []
    for turn in turns:
        sentences = [next(left).told for _ in pattern.findall(turn.text)]
        if len(sentences) == 1:
            turn = add_time_text((turn,), sentences[0], place, training=False)[0]
        elif any(sentences):
            queue = iter(sentences)
            told = pattern.sub(lambda tag, queue=queue: _followed(tag.group(), next(queue)), turn.text)
            turn = Turn(turn.role, told)
        written.append(turn)
    return written


def stack(shown: Sequence[Shown], spec: ModelSpec) -> Media:
    """The pixels of all media, one after the other; none at all are pixels of the system's size and type."""
    apart = spec.image_tower is not None
    pictures = [one.frames for one in shown if apart and one.kind == "image"]
    frames = [one.frames for one in shown if not (apart and one.kind == "image")]
    return Media(_joined(frames, spec.pixels), _joined(pictures, spec.image_pixels or spec.pixels))


def _joined(clips: Sequence[Pixels], pixels: PixelSpec) -> Pixels:
    if clips:
        return np.concatenate(clips)
    return np.zeros((0, pixels.size, pixels.size, 3), np.float32 if pixels.normalise_first else np.uint8)


def _picture(path: str | os.PathLike[str], spec: ModelSpec, limits: Limits) -> Shown:
    """A picture; with tiles also as LLaVA-NeXT shows several of them: each padded to a square (train.py:1145-1153)."""
    pixels = spec.image_pixels or spec.pixels
    if not (spec.connector.unpooled_images and pixels.pinpoints):
        return Shown("image", load_image(path, pixels, limits)[None])
    picture = read_image(path, limits)
    squared = load_image(path, replace(pixels, pad="square"), limits)[None]
    return Shown("image", squared, views=anyres_views(picture, pixels), size=(picture.shape[1], picture.shape[0]))


def _followed(tag: str, sentence: str) -> str:
    return f"{tag}\n{sentence}\n" if sentence else tag
