"""One record into what the model reads: a row of places and the frames that it shows."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vidlmm.data.cache import FrameCache
from vidlmm.data.errors import DataError
from vidlmm.data.records import TAG, MediaRef, Record
from vidlmm.layout import Plan, Row, image_plan, merge, tree, truncate, video_plan
from vidlmm.layout.batch import Pixels
from vidlmm.media.limits import Limits
from vidlmm.media.sampling import FrameChoice, time_text
from vidlmm.media.video import Clip, load_image, load_video
from vidlmm.spec import ModelSpec
from vidlmm.text import Encoded, Tokenizer, Turn, add_time_text, encode_prompt, encode_training, get_template

# A picture is a clip of one frame.
STILL = FrameChoice(indices=(0,), times=(0.0,), duration=0.0, told=(0.0,))

Turns = Literal["conversation", "branches"]

_LEADING_TAGS = re.compile(rf"(?:\s*(?:{TAG.pattern}))+\s*")


@dataclass(frozen=True)
class Sample:
    """row: places and targets; frames: [f, S, S, 3], the pixels of all its media in order; id: the record's."""

    row: Row
    frames: Pixels
    id: str


@dataclass(frozen=True)
class Loader:
    """Opens media by the spec, from the cache of decoded clips where there is one."""

    spec: ModelSpec
    limits: Limits = Limits()
    cache: FrameCache | None = None

    def clip(self, ref: MediaRef) -> Clip:
        """The frames of a video, or a picture as a clip of one frame without times.

        Raises:
            MediaError: the file does not open.
        """
        if ref.kind == "image":
            pixels = load_image(ref.path, self.spec.pixels, self.limits)
            return Clip(frames=pixels[None], choice=STILL)
        stored = self.cache and self.cache.get(ref.path, self.spec.frames, self.spec.pixels)
        if stored:
            return stored
        clip = load_video(ref.path, self.spec.frames, self.spec.pixels, limits=self.limits)
        if self.cache:
            self.cache.put(ref.path, self.spec.frames, self.spec.pixels, clip)
        return clip


def make_sample(
    record: Record,
    spec: ModelSpec,
    tokenizer: Tokenizer,
    *,
    turns: Turns = "conversation",
    with_labels: bool = True,
    length: int | None = None,
    loader: Loader | None = None,
) -> Sample:
    """Load a record's media and write its conversation down.

    Args:
        turns: "conversation" keeps several turns as one sequence, as the rows are released;
            "branches" makes every question with its answer a branch of its own, so that no answer
            sees another one and the video's tokens stand once.
        with_labels: False gives the prompt of the last question alone, with nothing trained.
        length: a longer row is cut to so many places, branches that do not fit are left out from the
            last one on; None never cuts.
        loader: how media are opened; None decodes with the usual limits.

    Raises:
        MediaError: a medium does not open.
        DataError: nothing of the record is trained, or it cannot be written by this spec; the
            message names the file and the record.
    """
    loader = loader or Loader(spec)
    clips = [loader.clip(ref) for ref in record.media]
    choices = [clip.choice for clip in clips]
    row = make_row(record, choices, spec, tokenizer, turns=turns, with_labels=with_labels, length=length)
    return Sample(row=row, frames=stack_frames(clips, spec), id=record.id)


def make_row(
    record: Record,
    choices: Sequence[FrameChoice],
    spec: ModelSpec,
    tokenizer: Tokenizer,
    *,
    turns: Turns = "conversation",
    with_labels: bool = True,
    length: int | None = None,
) -> Row:
    """The places of a record whose media gave these frames; see `make_sample`."""
    items = [_plan(ref, choice, spec) for ref, choice in zip(record.media, choices, strict=True)]
    with blamed_on(record):
        if not with_labels:
            template = get_template(spec.prompt.template)
            asked = tell_times(record.turns[:-1], record.media, choices, spec, training=False)
            return merge(encode_prompt(asked, template, tokenizer, system=spec.prompt.system), None, items)
        encoded = encode_record(record, choices, spec, tokenizer, turns)
        row = tree(encoded, items)
        while length is not None and len(row) > length:
            encoded = encoded[:-1] or encoded
            row = tree(encoded, items) if len(encoded) > 1 else truncate(tree(encoded, items), length)
        if not row.weight.any():
            raise ValueError(f"template {spec.prompt.template!r} trains no token of it; every record needs an answer")
        return row


def encode_record(
    record: Record, choices: Sequence[FrameChoice], spec: ModelSpec, tokenizer: Tokenizer, turns: Turns
) -> list[Encoded]:
    """The record's conversation, or each of its branches, as ids and labels."""
    template = get_template(spec.prompt.template)
    rounds = split_rounds(record.turns) if turns == "branches" else [record.turns]
    told = [tell_times(r, record.media, choices, spec, training=True) for r in rounds]
    return [encode_training(t, template, tokenizer, system=spec.prompt.system) for t in told]


def tell_times(
    turns: Sequence[Turn],
    media: Sequence[MediaRef],
    choices: Sequence[FrameChoice],
    spec: ModelSpec,
    *,
    training: bool,
) -> list[Turn]:
    """The turns with the spec's sentence about frame times after each video's tag.

    Where a turn has one tag, `add_time_text` says where the sentence stands. The published systems
    have no turn with several; there each tag is followed by a new line and its sentence.

    Args:
        training: LLaVA-Video writes one line break more in training than when it is asked.
    """
    kind = spec.frames.time_text
    place: Literal["llava_video", "llavaction"] = "llavaction" if kind == "llavaction" else "llava_video"
    left = iter(zip(media, choices, strict=True))
    told = []
    for turn in turns:
        shown = [next(left) for _ in TAG.findall(turn.text)]
        sentences = [time_text(kind, choice) if ref.kind == "video" else "" for ref, choice in shown]
        if len(shown) == 1:
            turn = add_time_text((turn,), sentences[0], place, training=training)[0]
        elif any(sentences):
            turn = replace(turn, text=_after_each_tag(turn.text, sentences))
        told.append(turn)
    return told


def split_rounds(turns: Sequence[Turn]) -> list[list[Turn]]:
    """Each question with its answer; the media tags of the first question stand before every question.

    Raises:
        ValueError: media stand in a later question, or several in the middle of the first one, so
            that the questions cannot share them.
    """
    system = [turn for turn in turns if turn.role == "system"]
    questions, answers = ([t for t in turns if t.role == role] for role in ("user", "assistant"))
    first = questions[0].text
    tags = TAG.findall(first)
    leading = _LEADING_TAGS.match(first)
    head = leading.group() if leading else ""
    if len(tags) == 1 and not head:
        head, first = f"{tags[0]}\n", TAG.sub("", first).strip()
    else:
        first = first[len(head) :]
    if TAG.search(first) or any(TAG.search(question.text) for question in questions[1:]):
        raise ValueError(
            'with turns="branches" all media must stand before the first question; '
            'move the tags there or use turns="conversation"'
        )
    texts = [first, *(question.text for question in questions[1:])]
    return [[*system, Turn("user", head + text), answer] for text, answer in zip(texts, answers, strict=True)]


@contextlib.contextmanager
def blamed_on(record: Record) -> Iterator[None]:
    """A ValueError inside becomes a DataError that names the record's file and place."""
    try:
        yield
    except ValueError as error:
        raise DataError(f"{record.place}: {error}") from error


def _after_each_tag(text: str, sentences: Sequence[str]) -> str:
    queue = iter(sentences)

    def told(tag: "re.Match[str]") -> str:
        sentence = next(queue)
        return f"{tag.group()}\n{sentence}\n" if sentence else tag.group()

    return TAG.sub(told, text)


def _plan(ref: MediaRef, choice: FrameChoice, spec: ModelSpec) -> Plan:
    return image_plan(spec) if ref.kind == "image" else video_plan(len(choice.indices), spec)


def stack_frames(clips: Sequence[Clip], spec: ModelSpec) -> Pixels:
    """The frames of all clips, one after the other; [0, S, S, 3] where there is none."""
    if clips:
        return np.concatenate([clip.frames for clip in clips])
    side = spec.pixels.size
    return np.zeros((0, side, side, 3), np.float32 if spec.pixels.normalise_first else np.uint8)
