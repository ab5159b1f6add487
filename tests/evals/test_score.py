"""Answers into scores, with the blind and the majority score beside each."""

import json

import pytest

from vidlmm.evals.examples import pick_examples
from vidlmm.evals.majority import count_majority
from vidlmm.evals.score import Verdict, judge, score
from vidlmm.evals.table import format_table

from .cases import question


def still(name: str, truth: str):
    return question(name, truth, type="Count", motion=False, kind="open", options=(), question="How many?")


QUESTIONS = [
    question("a1", "A"),
    question("a2", "B"),
    question("b1", "A"),
    question("c1", "C"),
    question("c2", "B", type="Binary", motion=False, options=("yes", "no"), question="Is it?\nA. yes\nB. no"),
    still("a3", "two"),
    still("b2", "three"),
]
ANSWERS = ["A. left", "B", "a ball", "C", "no", "Two.", "two"]
BLIND = ["A", "A", "A", "A", "maybe", "two", ""]


def test_judge() -> None:
    assert judge(QUESTIONS[0], "left") == Verdict("A", True)
    assert judge(QUESTIONS[0], "who knows") == Verdict(None, False)
    assert judge(QUESTIONS[5], "The two.") == Verdict("two", True)
    assert judge(QUESTIONS[5], "...") == Verdict(None, False)


def test_figures_of_every_group() -> None:
    scores = score(QUESTIONS, ANSWERS, BLIND)
    assert [(r.kind, r.group, r.name, r.count, r.clips) for r in scores.rows] == [
        ("multiple_choice", "overall", "All questions", 5, 3),
        ("multiple_choice", "motion", "Motion questions", 4, 3),
        ("multiple_choice", "still", "Other questions", 1, 1),
        ("multiple_choice", "type", "Object Direction", 4, 3),
        ("multiple_choice", "type", "Binary", 1, 1),
        ("open", "overall", "All questions", 2, 2),
        ("open", "type", "Count", 2, 2),
    ]
    motion = scores.find("motion")
    # "a ball" names no option: wrong, and counted apart
    assert (motion.accuracy, motion.unparsed, motion.blind, motion.blind_unparsed) == (0.75, 0.25, 0.5, 0.0)
    assert motion.gain == 0.25
    assert motion.majority == 0.5  # always "left", which is A
    assert motion.motion
    overall = scores.find("overall")
    assert (overall.accuracy, overall.blind, overall.blind_unparsed) == (0.8, 0.4, 0.2)
    assert not overall.motion
    counted = scores.find("overall", "open")
    assert (counted.accuracy, counted.blind, counted.majority, counted.blind_unparsed) == (0.5, 0.5, 0.5, 0.5)
    for row in scores.rows:
        assert row.low <= row.accuracy <= row.high
        assert row.blind_low <= row.blind <= row.blind_high
        assert row.gain_low <= row.gain <= row.gain_high


def test_no_group_without_questions() -> None:
    groups = [row.group for row in score(QUESTIONS[:4], ANSWERS[:4], BLIND[:4]).rows]
    assert groups == ["overall", "motion", "type"]
    with pytest.raises(KeyError, match="still"):
        score(QUESTIONS[:4], ANSWERS[:4], BLIND[:4]).find("still")


def test_the_majority_is_that_of_the_training_questions() -> None:
    training = [question(f"t{n}", "C") for n in range(3)]
    assert score(QUESTIONS, ANSWERS, BLIND).majority_from == "evaluated"
    scores = score(QUESTIONS, ANSWERS, BLIND, training=training)
    assert scores.majority_from == "training"
    assert scores.find("motion").majority == 0.25  # always "up"
    assert scores.find("overall", "open").majority == 0.0  # open questions were never counted


def test_the_usual_answer_goes_by_words_then_by_letter() -> None:
    usual = count_majority(
        [question("a", "A"), question("b", "B", options=("up", "left")), question("c", "B"), question("d", "B")]
    )
    # "left" and "right" are right twice each; left comes first in the alphabet
    assert usual.answer(question("e", "A", options=("right", "up", "left"))) == "C"
    assert usual.answer(question("e", "A", options=("down", "away"))) == "B"  # the most frequent letter
    assert usual.answer(question("e", "A", type="Speed", options=("down", "away"))) == "B"  # that of the whole kind
    assert usual.answer(still("f", "two")) is None


@pytest.mark.parametrize("short", [0, 1, 2])
def test_an_answer_a_question(short: int) -> None:
    parts = [QUESTIONS, ANSWERS, BLIND]
    parts[short] = parts[short][:-1]
    with pytest.raises(ValueError, match="blind answers"):
        score(*parts)
    with pytest.raises(ValueError, match="at least one"):
        score([], [], [])


def test_json_and_table_give_the_same_figures() -> None:
    scores = score(QUESTIONS, ANSWERS, BLIND, manifest={"system": "toy"})
    plain = json.loads(json.dumps(scores.to_json()))
    assert plain["manifest"] == {"system": "toy"}
    table = format_table(scores)
    for row in plain["scores"]:
        assert f"{100 * row['accuracy']:.1f}" in table
        assert row["name"] in table
    assert "Motion questions *" in table
    assert "the evaluated questions" in table


def test_examples_hold_right_and_wrong_ones_of_many_clips() -> None:
    questions = [question(f"{clip}{n}", "A", type=f"type {n}") for clip in "abcdefgh" for n in range(6)]
    answers = ["B" if n % 6 == 0 else "A" for n in range(len(questions))]
    picked = pick_examples(score(questions, answers, answers).answers, 12)
    assert len(picked) == len({one.question.id for one in picked}) == 12
    assert sum(one.verdict.right for one in picked) == 10
    assert len({one.question.clip for one in picked}) == 8
    assert picked == pick_examples(score(questions, answers, answers).answers, 12)


def test_examples_of_few_answers() -> None:
    scores = score(QUESTIONS, ANSWERS, BLIND)
    assert len(pick_examples(scores.answers, 99)) == len(QUESTIONS)
    assert {one.verdict.right for one in pick_examples(scores.answers, 2)} == {True, False}
    assert pick_examples([], 12) == []
    right = score(QUESTIONS[:2], ["A", "B"], ["A", "B"])
    assert [one.verdict.right for one in pick_examples(right.answers, 2)] == [True, True]
