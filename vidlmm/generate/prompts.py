"""A conversation about some videos and pictures into what generation reads."""

from collections.abc import Sequence
from typing import Literal

from vidlmm.generate.answers import Prompt
from vidlmm.layout import items_of, lay_out, stack
from vidlmm.media.shown import MediaKind, Shown, show, side_by_side
from vidlmm.spec import ModelSpec
from vidlmm.text import Tokenizer, Turn, add_time_text, encode_prompt, system_template
from vidlmm.text.messages import tag_pattern

__all__ = ["MediaKind", "Shown", "make_prompt", "show", "tell_times"]


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
        turns: the conversation; every medium has its tag (<video>, <image>, <audio>) in a user turn, in order.
        media: what the tags stand for.
        id, sample: see `Prompt`.

    Raises:
        ValueError: tags and media that do not match, or turns out of order.
    """
    told = tell_times(turns, media, spec)
    ids = encode_prompt(told, system_template(spec), tokenizer, system=spec.prompt.system)
    shown = side_by_side(media)
    seen = stack(shown, spec)
    return Prompt(lay_out(ids, None, items_of(shown), spec), seen.frames, id, sample, seen.pictures, seen.sounds)


def tell_times(turns: Sequence[Turn], media: Sequence[Shown], spec: ModelSpec) -> list[Turn]:
    """The turns with each video's sentence after its tag.

    In a turn with one tag the sentence stands as the system's inference code writes it (`vidlmm.text.add_time_text`).
    With several, which no published system has, each tag is followed by a line of its own.

    Raises:
        ValueError: not as many tags as media.
    """
    template = system_template(spec)
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


def _followed(tag: str, sentence: str) -> str:
    return f"{tag}\n{sentence}\n" if sentence else tag
