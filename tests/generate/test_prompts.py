"""Conversations about media into rows and frames."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.generate import tiny
from vidlmm.data.records import MediaRef, Record
from vidlmm.data.sample import make_row
from vidlmm.generate.prompts import Shown, make_prompt, show, tell_times
from vidlmm.layout import Table
from vidlmm.media.errors import MediaError
from vidlmm.media.sampling import FrameChoice, time_text
from vidlmm.spec import FrameSpec
from vidlmm.text import Turn, get_template

TOLD = replace(tiny.SPEC, frames=FrameSpec(count=4, time_text="llava_video"))
SENTENCE = (
    "The video lasts for 2.00 seconds, and 4 frames are uniformly sampled from it. These frames are located at "
    "0.00s,0.50s,1.00s,1.50s.Please answer the following questions related to this video."
)
CHOICE = FrameChoice((0, 5, 10, 15), (0.0, 0.5, 1.0, 1.5), 2.0, (0.0, 0.5, 1.0, 1.5))


def video(told: str = "") -> Shown:
    return Shown("video", tiny.clip(1), told)


def image() -> Shown:
    return Shown("image", tiny.clip(2, 1))


def text_of(prompt) -> str:
    """The prompt's text, `*` where media stand."""
    ids = np.where(prompt.row.table == Table.TEXT, prompt.row.row, -1).tolist()
    parts, run = "", []
    for id in [*ids, None]:
        if id is None or id < 0:
            parts += tiny.tokenizer().decode(run, skip_special=False)
            run = []
            parts += "*" if id is not None and not parts.endswith("*") else ""
        else:
            run.append(id)
    return parts


def test_a_video_stands_where_its_tag_is():
    prompt = make_prompt([Turn("user", "<video>\nWhy?")], [video()], tiny.SPEC, tiny.tokenizer(), id="a", sample=2)
    assert text_of(prompt) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n*\nWhy?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert (prompt.row.table == Table.VISUAL).sum() == 4 * 4
    assert (prompt.id, prompt.sample, prompt.row.frames) == ("a", 2, 4)
    np.testing.assert_array_equal(prompt.frames, tiny.clip(1))


def test_the_times_are_told_with_one_line_break_at_inference():
    assert time_text("llava_video", CHOICE) == SENTENCE
    told = tell_times([Turn("user", "<video>\nWhy?")], [video(SENTENCE)], TOLD)
    assert told == [Turn("user", f"<video>\n{SENTENCE}\nWhy?")]


def test_times_stay_with_the_first_question_of_a_conversation():
    turns = [Turn("user", "<video>\nWhy?"), Turn("assistant", "So."), Turn("user", "Really?")]
    told = tell_times(turns, [video(SENTENCE)], TOLD)
    assert [turn.text for turn in told] == [f"<video>\n{SENTENCE}\nWhy?", "So.", "Really?"]
    assert text_of(make_prompt(turns, [video()], TOLD, tiny.tokenizer())).count("<|im_start|>assistant\n") == 2


def test_several_media_follow_one_another_and_a_picture_has_no_times():
    turns = [Turn("user", "<video>\n<image>\nWhich is red?")]
    told = tell_times(turns, [video("First."), image()], TOLD)
    assert told == [Turn("user", "<video>\nFirst.\n\n<image>\nWhich is red?")]
    prompt = make_prompt(turns, [video(), image()], tiny.SPEC, tiny.tokenizer())
    visual = prompt.row.row[prompt.row.table == Table.VISUAL]
    np.testing.assert_array_equal(visual, np.arange(5 * 4))
    np.testing.assert_array_equal(prompt.frames, np.concatenate([tiny.clip(1), tiny.clip(2, 1)]))


def test_media_of_a_later_turn_come_after_those_of_the_first():
    turns = [Turn("user", "<image>\nWhat?"), Turn("assistant", "A dog."), Turn("user", "<video>\nAnd here?")]
    assert [turn.text for turn in tell_times(turns, [image(), video("Second.")], TOLD)][2] == (
        "<video>\nSecond.\nAnd here?"
    )


@pytest.mark.parametrize("kinds", [("video",), ("image",), ("video", "video"), ("image", "video"), ()])
def test_a_prompt_is_written_as_the_data_writes_it(kinds):
    """Training data and questions must read alike, whoever writes them."""
    tags = "".join(f"<{kind}>\n" for kind in kinds)
    turns = (Turn("user", f"{tags}Why?"), Turn("assistant", "So."))
    record = Record(
        "r", tuple(MediaRef(kind, kind) for kind in kinds), turns, source="s", file="f.json", index=0, extra={}
    )
    still = FrameChoice((0,), (0.0,), 0.0, (0.0,))
    choices = [CHOICE if kind == "video" else still for kind in kinds]
    wanted = make_row(record, choices, TOLD, tiny.tokenizer(), with_labels=False)
    media = [video(SENTENCE) if kind == "video" else image() for kind in kinds]
    found = make_prompt(turns[:1], media, TOLD, tiny.tokenizer()).row
    for name in ("table", "row", "position", "branch"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


def test_a_question_without_media_has_no_frames():
    prompt = make_prompt([Turn("user", "Why?")], [], tiny.SPEC, tiny.tokenizer())
    assert prompt.frames.shape == (0, 16, 16, 3) and prompt.frames.dtype == np.uint8


@pytest.mark.parametrize("media", [[], [video(), video()]])
def test_tags_and_media_must_match(media):
    with pytest.raises(ValueError, match=f"holds 1 media tags .* for {len(media)} media"):
        make_prompt([Turn("user", "<video>\nWhy?")], media, tiny.SPEC, tiny.tokenizer())


def test_a_picture_is_opened_as_one_frame(tmp_path: Path):
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / "a.png")
    shown = show("image", tmp_path / "a.png", TOLD)
    assert shown.frames.shape == (1, 16, 16, 3) and shown.told == "" and (shown.frames == 90).all()


def test_a_medium_that_is_not_there_or_of_no_kind_is_refused(tmp_path: Path):
    with pytest.raises(MediaError, match="missing"):
        show("video", tmp_path / "no.mp4", TOLD)
    with pytest.raises(ValueError, match="got 'sound'"):
        show("sound", tmp_path / "no.wav", TOLD)


def test_the_template_decides_about_tags():
    assert ("<video>", (-200,)) in get_template(tiny.SPEC.prompt.template).tags
