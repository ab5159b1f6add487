"""From annotation files and clips to scores: what is asked, what is noted, and going on after a kill."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vidlmm.evals.ask import blank, blinded
from vidlmm.evals.errors import EvalError
from vidlmm.evals.questions import EvalQuestion, read_questions
from vidlmm.evals.run import evaluate_model, prompt_tail
from vidlmm.evals.score import Scores
from vidlmm.generate import Prompt
from vidlmm.generate.prompts import show
from vidlmm.layout import merge
from vidlmm.media.errors import MediaError
from vidlmm.spec import AudioSpec, ModelSpec, PixelSpec
from vidlmm.text import Tokenizer

from .cases import ASK, multiple_choice, open_question, row, write

GREY = 128  # rounded 255 * 0.5


class Toy:
    """Says "B" to frames and "A" to blanked ones, notes what it was asked, and dies when its calls are used up."""

    def __init__(self, calls: int = 99):
        self.calls = calls
        self.asked: list[Prompt] = []

    def __call__(self, prompts: Sequence[Prompt]) -> list[str]:
        if self.calls == 0:
            raise KeyboardInterrupt
        self.calls -= 1
        self.asked += prompts
        return ["A" if (prompt.frames == GREY).all() else "B" for prompt in prompts]


@pytest.fixture
def questions(tmp_path: Path, clips: Path) -> list[EvalQuestion]:
    """Nine questions about three clips: B is true of six, and one is open."""
    one = multiple_choice("Which way?", ("left", "right"), "right", type="Object Direction", motion=True)
    two = multiple_choice("Is it red?", ("yes", "no"), "yes", type="Binary")
    rows = [
        row(f"c{n}", one, two if n else open_question("How many?", "one"), one, video=str(clips / f"clip{n}.mp4"))
        for n in range(3)
    ]
    return read_questions(write(tmp_path / "held.json", *rows))


def evaluate(
    answer: Toy, questions: Sequence[EvalQuestion], spec: ModelSpec, tokenizer: Tokenizer, out: Path, **more
) -> Scores:
    identity = more.pop("identity", {"weights_sha256": "w"})
    return evaluate_model(answer, spec, tokenizer, questions, out, identity=identity, **more)


def test_answers_are_held_to_the_options_where_asked(tmp_path, questions, spec, tokenizer) -> None:
    free, held = Toy(), Toy()
    evaluate(free, questions, spec, tokenizer, tmp_path / "free")
    evaluate(held, questions, spec, tokenizer, tmp_path / "held", hold=True)
    assert not any(prompt.choices for prompt in free.asked)
    by_id = {prompt.id: [tokenizer.decode(ids[:-1]) for ids in prompt.choices] for prompt in held.asked}
    for question in questions:
        expected = [f"{letter}. {text}" for letter, text in zip("AB", question.options, strict=False)]
        assert by_id[question.id] == by_id[f"{question.id} blind"] == expected
    with pytest.raises(EvalError, match="held_to_options"):
        evaluate(free, questions, spec, tokenizer, tmp_path / "held")


def test_options_that_cannot_be_held_to_are_told_first(tmp_path, questions, spec, tokenizer) -> None:
    toy, unknown = Toy(), [replace(questions[0], choices=()), *questions[1:]]
    with pytest.raises(EvalError, match=f"1 questions, such as {questions[0].id}, have answers that are neither"):
        evaluate(toy, unknown, spec, tokenizer, tmp_path, hold=True)
    assert not toy.asked


def test_each_question_is_asked_with_frames_and_without(tmp_path, questions, spec, tokenizer) -> None:
    toy = Toy()
    scores = evaluate(toy, questions, spec, tokenizer, tmp_path / "out", batch=4)
    assert len(toy.asked) == 2 * len(questions)
    assert len({prompt.id for prompt in toy.asked}) == 2 * len(questions)
    seen = {p.id: p for p in toy.asked if not p.id.endswith(" blind")}
    for question in questions:
        with_frames, without = seen[question.id], next(p for p in toy.asked if p.id == f"{question.id} blind")
        assert np.array_equal(with_frames.row.row, without.row.row)  # the very same prompt
        assert with_frames.frames.shape == without.frames.shape == (4, 16, 16, 3)
        assert with_frames.frames.std() > 0
        assert (without.frames == GREY).all()
        # asked alone: the conversation's other questions are not there
        text = tokenizer.decode([int(i) for i in with_frames.row.row[with_frames.row.table == 1]])
        assert question.text in text
        assert text.count("?") == 1
        assert question.truth_text not in text.rsplit("assistant", 1)[1]
    overall = scores.find("overall")
    assert (overall.accuracy, overall.blind) == (0.75, 0.25)
    assert scores.find("overall", "open").unparsed == 0
    assert scores.find("motion").accuracy == 1


def test_what_is_written_down(tmp_path, questions, spec, tokenizer) -> None:
    out = tmp_path / "out"
    done: list[tuple[int, int]] = []
    scores = evaluate(Toy(), questions, spec, tokenizer, out, batch=4, progress=lambda n, of: done.append((n, of)))
    assert done == [(0, 9), (4, 9), (8, 9), (9, 9)]
    written = json.loads((out / "scores.json").read_text())
    assert written == json.loads(json.dumps(scores.to_json()))
    manifest = written["manifest"]
    assert manifest["prompt_tail"] == {"multiple_choice": ASK, "open": "How many?"}
    assert manifest["sampling"]["temperature"] == 0
    assert {"spec_sha256", "weights_sha256", "system", "template", "frames", "versions"} <= set(manifest)
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines[1:]] == [question.id for question in questions]
    assert lines[1] == {
        "id": "c0/0", "answer": "B", "blind_answer": "A", "truth": "B", "right": True, "blind_right": False
    }  # fmt: skip


def test_a_killed_evaluation_goes_on(tmp_path, questions, spec, tokenizer) -> None:
    whole = evaluate(Toy(), questions, spec, tokenizer, tmp_path / "whole", batch=2)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        evaluate(Toy(calls=2), questions, spec, tokenizer, out, batch=2)
    assert not (out / "scores.json").exists()
    journal = out / "answers.jsonl"
    with journal.open("ab") as file:
        file.write(b'{"id": "c1/1", "answ')  # a kill in the middle of a line
    toy = Toy()
    again = evaluate(toy, questions, spec, tokenizer, out, batch=2)
    assert len(toy.asked) == 2 * (len(questions) - 4)
    assert again.rows == whole.rows
    assert journal.read_bytes() == (tmp_path / "whole" / "answers.jsonl").read_bytes()
    # a finished one asks nothing more
    idle = Toy(calls=0)
    assert evaluate(idle, questions, spec, tokenizer, out).rows == whole.rows


def test_more_questions_go_on_from_a_few(tmp_path, questions, spec, tokenizer) -> None:
    evaluate(Toy(), questions[:3], spec, tokenizer, tmp_path / "out")
    toy = Toy()
    scores = evaluate(toy, questions, spec, tokenizer, tmp_path / "out")
    assert len(toy.asked) == 2 * 6
    assert len(scores.answers) == 9


def test_answers_of_another_model_are_not_taken_up(tmp_path, questions, spec, tokenizer) -> None:
    evaluate(Toy(), questions, spec, tokenizer, tmp_path)
    with pytest.raises(EvalError, match="weights_sha256 was 'w', is 'v'.*--out"):
        evaluate(Toy(), questions, spec, tokenizer, tmp_path, identity={"weights_sha256": "v"})


def test_a_file_that_is_no_journal_is_left_alone(tmp_path, questions, spec, tokenizer) -> None:
    (tmp_path / "answers.jsonl").write_text("my notes\n")
    with pytest.raises(EvalError, match="line 1 is no line of a journal"):
        evaluate(Toy(), questions, spec, tokenizer, tmp_path)
    assert (tmp_path / "answers.jsonl").read_text() == "my notes\n"


def test_missing_clips_are_told_before_the_first_question(tmp_path, spec, tokenizer) -> None:
    rows = [row(f"c{n}", open_question("How many?", "one")) for n in range(5)]
    toy = Toy()
    with pytest.raises(EvalError, match="5 of 5 media files are missing.*c0.mp4.*--media-root"):
        evaluate(toy, read_questions(write(tmp_path / "a.json", *rows)), spec, tokenizer, tmp_path / "out")
    assert not toy.asked


def test_a_broken_clip_keeps_the_answers_so_far(tmp_path, clips, questions, spec, tokenizer) -> None:
    bad = row("bad", open_question("How many?", "one"), video=str(clips / "broken.mp4"))
    both = [*questions[:2], *read_questions(write(tmp_path / "bad.json", bad))]
    with pytest.raises(MediaError, match="broken.mp4"):
        evaluate(Toy(), both, spec, tokenizer, tmp_path / "out", batch=2)
    assert len((tmp_path / "out" / "answers.jsonl").read_text().splitlines()) == 3


def test_an_answerer_that_loses_answers(tmp_path, questions, spec, tokenizer) -> None:
    with pytest.raises(EvalError, match="18 prompts were given and 1 answers came"):
        evaluate_model(lambda prompts: ["A"], spec, tokenizer, questions, tmp_path, identity={})


def test_each_clip_is_opened_once(tmp_path, questions, spec, tokenizer, monkeypatch) -> None:
    opened: list[str] = []

    def noting(kind, path, *rest):
        opened.append(path)
        return show(kind, path, *rest)

    monkeypatch.setattr("vidlmm.evals.ask.show", noting)
    evaluate(Toy(), questions, spec, tokenizer, tmp_path, batch=2)
    assert opened == [questions[n].media[0].path for n in (0, 3, 6)]


def test_pictures_and_sounds_are_blanked_too(spec) -> None:
    heard = replace(spec, audio=AudioSpec(), image_pixels=PixelSpec(mean=(0.0, 1.0, 0.2)))
    shown = np.full((1, 2, 2, 3), 7, np.uint8)
    prompt = Prompt(
        merge(np.array([1, 2, 3], np.int32), None, []), shown, "q", pictures=shown, sounds=(np.ones((4, 128), "f4"),)
    )
    blind = blinded(prompt, heard)
    assert blind.row is prompt.row and (blind.frames == GREY).all()
    assert blind.pictures[0, 0, 0].tolist() == [0, 255, 51]
    assert [sound.tolist() for sound in blind.sounds] == [np.full((4, 128), AudioSpec().fbank_mean, "f4").tolist()]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_blank_frames_show_the_mean(dtype: type) -> None:
    frames = np.full((2, 4, 4, 3), 200, dtype)
    pixels = PixelSpec(mean=(0.5, 0.4, 0.1), normalise_first=dtype is np.float32)
    blanked = blank(frames, pixels)
    assert blanked.dtype == frames.dtype
    assert blanked[1, 2, 3].tolist() == ([128, 102, 26] if dtype is np.uint8 else [0, 0, 0])
    assert (frames == 200).all()


def test_prompt_tail_where_questions_differ(questions) -> None:
    assert prompt_tail(questions[:2]) == {"multiple_choice": ASK, "open": "How many?"}
    mixed = [question for question in questions if question.kind == "multiple_choice"]
    assert prompt_tail(mixed) == {"multiple_choice": ASK}
