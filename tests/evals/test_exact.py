"""When two open answers are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidlmm.evals.exact import equal, normalise


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (" The red  Ball. ", "red ball"),
        ("It's an “owl”!", "its owl"),
        ("left-hand side", "left hand side"),
        ("3.5 s", "3.5 s"),
        ("1,000 things", "1,000 things"),
        ("3.", "3"),
        ("ﬁve ÉTÉ", "five été"),
        ("A", "a"),
        ("the", "the"),
        ("?!", ""),
    ],
)
def test_normalise(text: str, plain: str) -> None:
    assert normalise(text) == plain


@pytest.mark.parametrize(
    ("answer", "truth", "same"),
    [("Two.", "two", True), ("the cat", "Cat", True), ("two cats", "two", False), ("", "", False), ("!", "?", False)],
)
def test_equal(answer: str, truth: str, same: bool) -> None:
    assert equal(answer, truth) is same


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)
