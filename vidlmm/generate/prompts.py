"""A conversation about some videos and pictures into what generation reads."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vidlmm.generate.answers import Prompt
from vidlmm.layout import Plan, image_plan, merge, video_plan
from vidlmm.layout.batch import Pixels
from vidlmm.media.limits import DEFAULT_LIMITS, Limits
from vidlmm.media.sampling import time_text
from vidlmm.media.video import load_image, load_video
from vidlmm.spec import ModelSpec
from vidlmm.text import Tokenizer, Turn, add_time_text, encode_prompt, get_template
from vidlmm.text.messages import tag_pattern

MediaKind = Literal["video", "image"]


@dataclass(frozen=True, eq=False)
class Shown:
    """One video or picture as a system sees it.

    frames: [f, S, S, 3]; a picture is one frame.
    told: the system's sentence about the frames' times; "" for pictures and for systems without one.
    """

    kind: MediaKind
    frames: Pixels
    told: str = ""


def show(kind: str, path: str | os.PathLike[str], spec: ModelSpec, limits: Limits = DEFAULT_LIMITS) -> Shown:
    """Open a video file (or a folder of its frames) or a picture the way a system does.

    Args:
        kind: "video" or "image".

    Raises:
        MediaError: the file does not open.
        ValueError: neither a video nor an image is asked for.
    """
    if kind == "image":
        return Shown("image", load_image(path, spec.pixels, limits)[None])
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
    row = merge(ids, None, [plan(one, spec) for one in media])
    return Prompt(row, stack([one.frames for one in media], spec), id, sample)


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


def plan(shown: Shown, spec: ModelSpec) -> Plan:
    """The places that a medium takes."""
    return image_plan(spec) if shown.kind == "image" else video_plan(len(shown.frames), spec)


def stack(clips: Sequence[Pixels], spec: ModelSpec) -> Pixels:
    """The frames of all media, one after the other; none at all are frames of the system's size and type."""
    if clips:
        return np.concatenate(clips)
    side = spec.pixels.size
    return np.zeros((0, side, side, 3), np.float32 if spec.pixels.normalise_first else np.uint8)


def _followed(tag: str, sentence: str) -> str:
    return f"{tag}\n{sentence}\n" if sentence else tag
