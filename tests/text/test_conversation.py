"""What holds for every template, and what wrong conversations say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.cases import HOUND, QWEN, SFT, VALLEY
from vidlmm.text import (
    TEMPLATES,
    Turn,
    add_time_text,
    count_tags,
    encode_choices,
    encode_prompt,
    encode_training,
    get_template,
    load_tokenizer,
    render,
    stop_ids,
)
from vidlmm.text.messages import tag_pattern

BYTES = load_tokenizer(SFT / "tokenizer_mistral")
QWEN_TOKENIZER = load_tokenizer(QWEN)
LLAMA = load_tokenizer(HOUND / "tokenizer.model", legacy=False)
VALLEY_TOKENIZER = load_tokenizer(VALLEY / "tokenizer")
ASKED = [Turn("user", "<video>\nWhat is it?"), Turn("assistant", "A red ball.")]
MORE = [*ASKED, Turn("user", "Where?"), Turn("assistant", "Left.")]


def fitting(template):
    """A tokenizer of the template's family."""
    if template.name.startswith("valley"):
        return VALLEY_TOKENIZER
    if template.bos and "<|im_end|>" not in template.stop:
        return LLAMA
    return BYTES


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_labels_are_the_ids_where_trained_and_some_are(template):
    tokenizer = fitting(template)
    encoded = encode_training(ASKED, template, tokenizer)
    trained = encoded.labels != -100
    assert encoded.trained == trained.sum() > 0
    np.testing.assert_array_equal(encoded.labels[trained], encoded.ids[trained])
    assert (encoded.ids[trained] >= 0).all(), "a medium is never predicted"
    (placeholders,) = [ids for tag, ids in template.tags if tag == "<video>"]
    assert tuple(encoded.ids[encoded.ids < 0].tolist()) == placeholders
    last = np.flatnonzero(trained)
    assert "ball." in tokenizer.decode(encoded.labels[last].tolist())


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_ids_without_placeholders_are_the_text_without_tags(template):
    tokenizer = fitting(template)
    text = render(ASKED, template)
    decoded = tokenizer.decode(encode_training(ASKED, template, tokenizer).ids.tolist(), skip_special=False)
    # Sentencepiece marks the start of every stretch, so spaces are compared away.
    expected = tag_pattern(template).sub("", text)
    assert decoded.removeprefix("<s>").replace(" ", "") == expected.removeprefix("<s>").replace(" ", "")


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_prompt_is_the_beginning_of_its_training_sample(template):
    tokenizer = fitting(template)
    prompt = encode_prompt(ASKED[:1], template, tokenizer).tolist()
    assert encode_training(ASKED, template, tokenizer).ids[: len(prompt)].tolist() == prompt


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_choices_are_what_training_writes_after_the_prompt(template):
    tokenizer = fitting(template)
    prompt = encode_prompt(ASKED[:1], template, tokenizer).tolist()
    whole = encode_training(ASKED, template, tokenizer).ids.tolist()
    red, left = encode_choices(ASKED[:1], ("A red ball.", "Left."), template, tokenizer)
    assert whole[len(prompt) :][: len(red) - 1] == list(red[:-1]) != list(left[:-1])
    assert [token in stop_ids(template, tokenizer) for token in red] == [False] * (len(red) - 1) + [True]
    assert "A red ball." in tokenizer.decode(red[:-1])


def test_qwen_answer_trains_the_answer_and_its_end_mark_alone():
    encoded = encode_training(MORE, TEMPLATES["qwen_answer"], BYTES)
    trained = BYTES.decode(encoded.labels[encoded.labels >= 0].tolist(), skip_special=False)
    assert trained == "A red ball.<|im_end|>Left.<|im_end|>"
    released = encode_training(MORE, TEMPLATES["qwen_1_5"], BYTES)
    assert released.ids.tolist() == encoded.ids.tolist()
    assert released.trained > encoded.trained


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<>"), max_size=12), min_size=2, max_size=6
    )
)
def test_answers_are_trained_whole_whatever_they_are(said):
    said = said[: len(said) // 2 * 2]
    turns = [Turn("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(said)]
    encoded = encode_training(turns, TEMPLATES["qwen_answer"], BYTES)
    trained = BYTES.decode(encoded.labels[encoded.labels >= 0].tolist(), skip_special=False)
    assert trained == "".join(f"{answer}<|im_end|>" for answer in said[1::2])


def test_an_answer_that_grows_together_with_its_header_is_trained_from_there():
    # "\n\n" is one token of this tokenizer: the header's line break and the answer's first become it.
    turns = [Turn("user", "Go"), Turn("assistant", "\nOk")]
    encoded = encode_training(turns, TEMPLATES["qwen_answer"], QWEN_TOKENIZER)
    trained = QWEN_TOKENIZER.decode(encoded.labels[encoded.labels >= 0].tolist(), skip_special=False)
    assert trained == "\n\nOk<|im_end|>"


class TestSystem:
    def test_argument_turn_and_default(self):
        template = TEMPLATES["qwen_1_5"]
        assert "You are a helpful assistant." in render(ASKED, template)
        assert render(ASKED, template, "Be brief.").startswith(
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user"
        )
        told = [Turn("system", "Be kind."), *ASKED]
        assert render(told, template, "Be brief.") == render(ASKED, template, "Be kind.")

    def test_an_empty_message_leaves_the_block_out(self):
        assert render(ASKED, TEMPLATES["vicuna_v1"], "").startswith("USER: <video>")
        assert render(ASKED, TEMPLATES["llama_2"], "") == "[INST] <video>\nWhat is it? [/INST] A red ball. </s>"


class TestTags:
    @pytest.mark.parametrize(
        ("name", "written", "expected"),
        [
            ("qwen_1_5", "Look. <image>", "<image>\nLook."),
            ("qwen_1_5", "<image> Look.", "<image> Look."),
            ("qwen_1_5", "<image> and <image>", "<image> and <image>"),
            ("qwen_1_5", "Is it so?QA_GT_caption_based_noisy", "Is it so?"),
            ("hound", "<video> Look. ", "<video>\nLook."),
            ("hound", "Look.\n<video>", "<video>\nLook."),
            ("videollama2_qwen2", "What?\n<audio>", "<audio>\nWhat?"),
            ("valley", "Look.\n<video>", "Look.\n<video>"),
            ("videollama2_pretrain_av", "Look.\n<video>", "<video>"),
        ],
    )
    def test_where_they_go(self, name, written, expected):
        template = TEMPLATES[name]
        assert template.user_head + expected + template.user_tail in render([Turn("user", written)], template)

    def test_each_becomes_the_system_s_id(self):
        asked = [Turn("user", "<video>")]
        for name, ids in (("qwen_1_5", [-200]), ("hound", [-201]), ("video_llava", [-200] * 8)):
            tokenizer = fitting(TEMPLATES[name])
            encoded = encode_prompt(asked, TEMPLATES[name], tokenizer)
            assert encoded[encoded < 0].tolist() == ids

    def test_count(self):
        turns = [Turn("user", "<image> <video> <image>"), Turn("assistant", "x"), Turn("user", "<image>")]
        assert count_tags(turns, TEMPLATES["qwen_1_5"]) == 4
        assert count_tags([Turn("user", "no")], TEMPLATES["qwen_1_5"]) == 0


class TestTimeText:
    @pytest.mark.parametrize(
        ("kind", "training", "expected"),
        [
            ("llava_video", True, "<image>\nTold.\n\nWhy?"),
            ("llava_video", False, "<image>\nTold.\nWhy?"),
            ("llavaction", True, "<image>\nTold.Why?"),
            ("none", True, "<image>\nWhy?"),
        ],
    )
    def test_where_it_stands(self, kind, training, expected):
        turns = [Turn("user", "<image>\nWhy?"), Turn("assistant", "So."), Turn("user", "And?")]
        told = add_time_text(turns, "Told.", kind, training=training)
        assert [turn.text for turn in told] == [expected, "So.", "And?"]

    def test_without_a_sentence_nothing_changes(self):
        assert add_time_text(ASKED, "", "llava_video", training=True) == tuple(ASKED)

    def test_the_tag_stays_what_it_was(self):
        told = add_time_text(ASKED, "Told.", "llava_video", training=False)
        assert told[0].text == "<video>\nTold.\nWhat is it?"


class TestFaults:
    @pytest.mark.parametrize(
        ("turns", "message"),
        [
            ([], "nothing to write"),
            ([Turn("assistant", "dropped")], "nothing to write"),
            ([ASKED[0], ASKED[0]], "turn 1 is from the user"),
            ([*ASKED, Turn("system", "late")], "system turn can only stand first"),
            ([ASKED[0], Turn("assistant", "see <image>")], "turn 1 is an answer and holds a media tag"),
            (ASKED[:1], "ends with an answer"),
        ],
    )
    def test_turns(self, turns, message):
        with pytest.raises(ValueError, match=message):
            encode_training(turns, TEMPLATES["qwen_1_5"], BYTES)

    def test_a_prompt_without_a_question(self):
        with pytest.raises(ValueError, match="ends with a user turn"):
            encode_prompt(ASKED, TEMPLATES["qwen_1_5"], BYTES)

    @pytest.mark.parametrize("turns", [MORE, [Turn("user", "no tag"), Turn("assistant", "x")]])
    def test_captions_are_one_round_with_one_tag(self, turns):
        with pytest.raises(ValueError, match="one question with one media tag"):
            encode_training(turns, TEMPLATES["plain"], BYTES)

    @pytest.mark.parametrize(
        ("name", "tokenizer", "missing"),
        [("qwen_1_5", LLAMA, "<|im_end|>"), ("vicuna_v1", QWEN_TOKENIZER, "</s>"), ("valley", BYTES, "<im_start>")],
    )
    def test_a_tokenizer_of_another_family(self, name, tokenizer, missing):
        with pytest.raises(ValueError, match=f"'{name}' needs the token '{missing.replace('|', '.')}'"):
            encode_prompt(ASKED[:1], TEMPLATES[name], tokenizer)

    def test_valley_s_media_token_in_the_text(self):
        with pytest.raises(ValueError, match="stands for media"):
            encode_prompt([Turn("user", "<video> <im_start>")], TEMPLATES["valley"], VALLEY_TOKENIZER)

    def test_an_unknown_template_names_the_nearest(self):
        with pytest.raises(ValueError, match=r"'qwen_1\.5'; did you mean qwen_1_5"):
            get_template("qwen_1.5")
        assert get_template("hound") is TEMPLATES["hound"]
