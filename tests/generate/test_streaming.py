"""Text while it grows: pieces join to the answer and never take anything back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.generate import tiny
from vidlmm.generate.streaming import TextStream, settled, stop_place
from vidlmm.text import clean_answer, get_template

QWEN, VALLEY = get_template("qwen_1_5"), get_template("valley")
WORDS = st.sampled_from(
    ["###", "#", "Assistant:", "Assist", "Valley", ":", " ", "\n", "a", "b c", "é", "你", "🎬", "\ufffd", "Response: "]
)


def pieces(ids: list[int], template) -> list[str]:
    stream = TextStream(tiny.tokenizer(), template)
    return [*(stream.push(ids[:n]) for n in range(1, len(ids) + 1)), stream.finish(ids)]


@settings(deadline=None, max_examples=150)
@given(st.lists(WORDS, max_size=12), st.sampled_from([QWEN, VALLEY]))
def test_pieces_join_to_the_answer(words, template):
    ids = tiny.tokenizer().encode("".join(words))
    assert "".join(pieces(ids, template)) == clean_answer("".join(words), template)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.integers(0, 272), max_size=30), st.sampled_from([QWEN, VALLEY]))
def test_pieces_of_any_tokens_join_to_the_answer(ids, template):
    assert "".join(pieces(ids, template)) == clean_answer(tiny.tokenizer().decode(ids), template)


def test_a_character_of_several_tokens_comes_whole():
    ids = tiny.tokenizer().encode("a🎬b")
    assert len(ids) >= 6
    assert [piece for piece in pieces(ids, QWEN) if piece] == ["a", "🎬", "b"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("Ass", ""),
        ("Assistant:", ""),
        ("### Assistant: Dogs", "Dogs"),
        ("Valley: red", "red"),
        ("Dogs.", "Dogs."),
        ("Dogs.##", "Dogs."),
        ("Dogs. #", "Dogs."),
        ("Dogs.###x", "Dogs."),
        ("Dogs ", "Dogs"),
        ("Dogs\ufffd", "Dogs"),
    ],
)
def test_what_may_still_change_is_held_back(text, shown):
    assert settled(text, VALLEY) == shown


def test_the_place_of_the_stop_text_counts_its_tokens():
    ids = tiny.tokenizer().encode("red## blue### green###")
    place = stop_place(tiny.tokenizer(), ids, 0, "###")
    assert place is not None
    assert tiny.tokenizer().decode(ids[:place]) == "red## blue###"
    assert stop_place(tiny.tokenizer(), ids, 0, "@") is None
    assert stop_place(tiny.tokenizer(), ids, 0, "") is None
