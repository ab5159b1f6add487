"""Annotation rows into questions."""

import json
from pathlib import Path

import pytest

from vidlmm.data.errors import DataError
from vidlmm.data.records import read_records
from vidlmm.evals.questions import fingerprint, questions_of, read_questions, select, shown_options
from vidlmm.world import dataset as world
from vidlmm.world.questions import ask
from vidlmm.world.script import write_script

from .cases import ASK, multiple_choice, open_question, row, write


def test_noted_questions(tmp_path: Path) -> None:
    path = write(
        tmp_path / "held.json",
        row("7", multiple_choice("Which way?", ("left", "right"), "right", type="Object Direction", motion=True),
            ("Describe it.", "A red ball moves.", None),
            open_question("How many?", "two", type="Count")),
    )  # fmt: skip
    first, second = read_questions(path)
    assert (first.id, first.type, first.motion, first.kind) == ("7/0", "Object Direction", True, "multiple_choice")
    assert (first.options, first.truth, first.truth_text) == (("left", "right"), "B", "right")
    assert first.question == f"<image>\nWhich way?\nA. left\nB. right\n{ASK}"
    assert first.stem == "Which way?"
    assert first.clip == str(tmp_path / "7.mp4")
    # asked alone, so the later question shows the clip too
    assert (second.id, second.kind, second.truth) == ("7/2", "open", "two")
    assert second.question == "<image>\nHow many?"
    assert second.stem == second.text == "How many?"


@pytest.mark.parametrize(
    ("given", "choices"),
    [
        ("B", ("A", "B")),
        ("(B)", ("(A)", "(B)")),
        ("B. right", ("A. left", "B. right")),
        ("right", ("left", "right")),
        ("right.", ("left.", "right.")),
        ("It is B, right", ()),
    ],
)
def test_choices_have_the_form_of_the_answer(tmp_path: Path, given: str, choices: tuple[str, ...]) -> None:
    path = write(tmp_path / "a.json", row("x", ("Which way?\nA. left\nB. right", given, None), notes=False))
    (question,) = read_questions(path)
    assert (question.truth, question.choices) == ("B", choices)


def test_released_rows_need_no_list(tmp_path: Path) -> None:
    mc = multiple_choice("Which way?", ("left", "right"), "left")[:2]
    one = row("x", (*mc, None), ("And then?", "It stops.", None), notes=False, source="nextqa")
    path = write(tmp_path / "a.json", one)
    first, second = read_questions(path)
    assert (first.kind, first.truth, first.type, first.motion) == ("multiple_choice", "A", "nextqa", False)
    assert (second.kind, second.truth, second.options) == ("open", "It stops.", ())


def test_the_generated_world_is_read(tmp_path: Path) -> None:
    """Its files, of both kinds, give back every truth that the scripts know."""
    scripts = [write_script(3, "heldout", number) for number in range(6)]
    for kind, form in (("mc", world.multiple_choice), ("oe", world.open_ended)):
        asked = {script.id: ask(script, 3) for script in scripts}
        rows = [world.row(script, kind, [form(q) for q in asked[script.id]], asked[script.id]) for script in scripts]
        questions = read_questions(write(tmp_path / f"{kind}.json", *rows))
        truths = [q for script in scripts for q in asked[script.id]]
        assert len(questions) == len(truths) > 40
        for question, known in zip(questions, truths, strict=True):
            assert (question.truth_text, question.type, question.motion) == (known.answer, known.type, known.motion)
            assert question.stem == known.question
            assert question.truth == (known.letter if kind == "mc" else known.answer)
            assert question.options == (known.options if kind == "mc" else ())


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("Q\nA. left\nB. right", ("left", "right")),
        ("Q\n(A) left\n(B) right\nAnswer.", ("left", "right")),
        ("Q\nA) left\nB) right", ("left", "right")),
        ("Q\nB. left\nC. right", ()),
        ("Q\nA. left", ()),
        ("A man walks.\nA dog too.", ()),
    ],
)
def test_shown_options(text: str, options: tuple[str, ...]) -> None:
    assert shown_options(text) == options


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ([None], "for each of 2 answers, got 1 entries"),
        ("none", "got str"),
        ([3, None], "must be an object or null"),
        ([{"kind": "essay"}, None], "'essay'"),
        ([{"speed": 1}, None], "unknown fields"),
        ([{"options": ["left", "up"], "answer": "up"}, None], "lists the options"),
        ([None, {"kind": "multiple_choice", "options": ["a ball", "a box"], "answer": "a ball"}], "lists the options"),
        ([{"answer": "down"}, None], "none of the options"),
    ],
)
def test_a_bad_list_names_its_record(tmp_path: Path, notes: object, message: str) -> None:
    mc = multiple_choice("Which way?", ("left", "right"), "left")
    one = row("bad", mc, ("Describe.", "A ball.", None))
    one["questions"] = notes
    path = write(tmp_path / "a.json", row("good", mc), one)
    with pytest.raises(DataError, match=message) as caught:
        read_questions(path)
    assert "record 1 (id 'bad')" in str(caught.value)


def test_an_answer_that_names_no_option(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", row("x", ("Which way?\nA. left\nB. right", "down", None), notes=False))
    with pytest.raises(DataError, match="names none of the options"):
        read_questions(path)


def test_ids_must_differ(tmp_path: Path) -> None:
    one = row("same", open_question("How many?", "two"))
    with pytest.raises(DataError, match="another record has this id"):
        read_questions(write(tmp_path / "a.json", one, one))


def test_select(tmp_path: Path) -> None:
    mc = multiple_choice("Which way?", ("left", "right"), "left")
    questions = read_questions(write(tmp_path / "a.json", row("x", mc, open_question("How many?", "two"), mc)))
    assert [q.id for q in select(questions, ("multiple_choice",))] == ["x/0", "x/2"]
    assert [q.id for q in select(questions, limit=2)] == ["x/0", "x/1"]
    for kinds, limit in ((("essay",), None), ((), None), (("open",), 0)):
        with pytest.raises(DataError):
            select(questions, kinds, limit)
    with pytest.raises(DataError, match="is of kind open"):
        select([questions[0]], ("open",))


def test_the_fingerprint_is_that_of_the_questions(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    same = [row("x", open_question("How many?", "two"))]
    here, there = write(tmp_path / "a.json", *same), write(tmp_path / "elsewhere" / "b.json", *same)
    other = write(tmp_path / "c.json", row("x", open_question("How many?", "three")))
    marks = [fingerprint(read_questions(path)) for path in (here, there, other)]
    assert marks[0] == marks[1] != marks[2]


def test_a_question_about_later_media_is_refused(tmp_path: Path) -> None:
    one = row("x", open_question("How many?", "two"), open_question("<image>\nAnd here?", "one"))
    one["video"] = ["x.mp4", "y.mp4"]
    (tmp_path / "a.json").write_text(json.dumps([one]))
    with pytest.raises(DataError, match="all media must stand before the first question"):
        read_questions(tmp_path / "a.json")


def test_questions_of_is_by_record(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", row("x", open_question("How many?", "two")))
    assert [q.id for q in questions_of(read_records(path)[0])] == ["x/0"]
