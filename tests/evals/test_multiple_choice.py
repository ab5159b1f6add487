"""Which letter an answer names."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidlmm.evals.multiple_choice import parse_choice

PLACES = ("left", "right", "up", "it does not move")
ANIMALS = ("a cat", "a dog", "a red car", "a car")


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        # the letter alone, marked in every way
        ("A", "A"),
        ("a", "A"),
        (" b. ", "B"),
        ("(C)", "C"),
        ("[d]", "D"),
        ("D:", "D"),
        ("**B**", "B"),
        ("( B )", "B"),
        ("B</s>", "B"),
        ("B.<|im_end|>", "B"),
        # letter and text
        ("A. left", "A"),
        ("A. left.", "A"),
        ("a. left", "A"),
        ("A . left", "A"),
        ("(B) right", "B"),
        ("B) right", "B"),
        ("C: up", "C"),
        ("B right", "B"),
        ("B. it goes there", "B"),
        ("D. It does not move.", "D"),
        # the option's text alone
        ("left", "A"),
        ("Right.", "B"),
        ("it does not move", "D"),
        # sentences
        ("The answer is B", "B"),
        ("the answer is B.", "B"),
        ("The answer is a", "A"),
        ("Answer: (C)", "C"),
        ("The correct answer is: **C. up**", "C"),
        ("Option D", "D"),
        ("The answer is A because the ball goes there.", "A"),
        ("I would choose option (A), not (B).", "A"),
        ("I think that (C) is what happens.", "C"),
        ("It moves to the left.", "A"),
        ("The ball goes right", "B"),
        # nothing, or several
        ("", None),
        ("   ", None),
        ("none of these", None),
        ("A or B", None),
        ("A, B", None),
        ("A. or B.", None),
        ("(A) and (C)", None),
        ("ABCD", None),
        ("E", None),
        ("E. down", None),
        ("The answer is not A", None),
        ("It is not (B)", None),
        ("left and then right", None),
        ("It is not left.", None),
        ("A. right", None),  # the letter and the text disagree
        ("(B) left", None),
        ("The answer is A or the answer is B", None),
        ("The answer is A or B.", None),
        ("The answer is B or C.", None),
        # the article is no letter
        ("A ball moves", None),
        ("a ball moves", None),
        ("There is a big ball", None),
        ("The answer is a ball", None),
        ("The answer is A ball", None),
        ("A ball goes up", "C"),
    ],
)
def test_places(answer: str, letter: str | None) -> None:
    assert parse_choice(answer, "ABCD", PLACES) == letter


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("A dog", "B"),  # not A: the words are those of B
        ("a dog.", "B"),
        ("A. a cat", "A"),
        ("A cat", "A"),
        ("It is a red car", "C"),  # holds "car" too, inside the longer option
        ("A red car runs there", "C"),
        ("a car", "D"),
        ("a cat and a dog", None),
        ("I see no dog", None),
        ("I see a man", None),
    ],
)
def test_options_that_begin_with_an_article(answer: str, letter: str | None) -> None:
    assert parse_choice(answer, "ABCD", ANIMALS) == letter


@pytest.mark.parametrize(("answer", "letter"), [("Yes, it does.", "A"), ("No, it does not.", "B"), ("not yes", None)])
def test_yes_and_no(answer: str, letter: str | None) -> None:
    assert parse_choice(answer, "AB", ("yes", "no")) == letter


def test_pronoun_is_no_letter() -> None:
    letters = "ABCDEFGHI"
    assert parse_choice("I think it is so", letters) is None
    assert parse_choice("The answer is I.", letters) == "I"


def test_equal_options_are_ambiguous() -> None:
    assert parse_choice("left", "AB", ("left", "Left.")) is None
    assert parse_choice("B", "AB", ("left", "Left.")) == "B"


@given(st.integers(0, 3), st.sampled_from(["{}", "{}.", "({})", "{}. {t}", "({}) {t}.", "The answer is {}.", "{t}"]))
def test_every_usual_form_names_its_option(index: int, form: str) -> None:
    assert parse_choice(form.format("ABCD"[index], t=PLACES[index]), "ABCD", PLACES) == "ABCD"[index]


@given(st.text(max_size=60))
def test_any_text_gives_a_letter_of_the_question_or_none(answer: str) -> None:
    assert parse_choice(answer, "ABCD", PLACES) in ("A", "B", "C", "D", None)


@pytest.mark.parametrize(("letters", "options"), [("AB", ("left",)), (("A", "b"), ()), (("AB", "C"), ())])
def test_wrong_letters(letters, options) -> None:
    with pytest.raises(ValueError, match="letter"):
        parse_choice("A", letters, options)


def test_where_published_parsers_agree_so_does_this_one(shared: Path) -> None:
    """Where every published parser of letters reads the same letter, it is what the answer says."""
    rows = json.loads((shared / "goldens" / "eval_parsers.json").read_text())["mcq"]
    names = ("lmms073_mcq_abcd", "lmms2024_videomme", "egoschema", "nextqa_mc", "perceptiontest")
    agreed = [(r["response"], r[names[0]]) for r in rows if len({r[n] for n in names}) == 1 and r[names[0]]]
    assert len(agreed) > 5
    for response, letter in agreed:
        said = parse_choice(response, "ABCD", ("cat", "dog", "car", "bird"))
        if response == "I would choose option (A), not (B).":
            assert said == "A"
        else:
            assert said in (letter, None), response
