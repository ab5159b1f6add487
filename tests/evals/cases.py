"""Small annotation files and models for the tests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidlmm.evals.questions import EvalQuestion

ASK = "Answer with the option's letter from the given choices directly."
Pair = tuple[str, str, dict[str, Any] | None]


def multiple_choice(question: str, options: Sequence[str], answer: str, **note: Any) -> Pair:
    """A question with listed options, its answer as it is trained, and its note."""
    listed = [f"{'ABCDE'[n]}. {option}" for n, option in enumerate(options)]
    letter = "ABCDE"[list(options).index(answer)]
    noted = {"kind": "multiple_choice", "options": list(options), "answer": answer} | note
    return "\n".join([question, *listed, ASK]), f"{letter}. {answer}", noted


def open_question(question: str, answer: str, **note: Any) -> Pair:
    return question, answer, {"kind": "open", "answer": answer} | note


def row(name: str, *pairs: Pair, notes: bool = True, source: str = "", video: str | None = None) -> dict[str, Any]:
    """A row of the released form about one clip."""
    said = []
    for number, (question, answer, _) in enumerate(pairs):
        head = "" if number else "<image>\n"
        said += [{"from": "human", "value": head + question}, {"from": "gpt", "value": answer}]
    made = {"id": name, "video": video or f"{name}.mp4", "conversations": said, "data_source": source}
    return made | ({"questions": [note for _, _, note in pairs]} if notes else {})


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text(json.dumps(list(rows)))
    return path


def question(name: str, truth: str = "A", **changed: Any) -> EvalQuestion:
    """A question with the options left, right, up; clips are the ids' first letters."""
    values: dict[str, Any] = {
        "id": name,
        "clip": name[0],
        "media": (),
        "type": "Object Direction",
        "motion": True,
        "kind": "multiple_choice",
        "question": "Which way?\nA. left\nB. right\nC. up",
        "options": ("left", "right", "up"),
        "truth": truth,
    }
    return EvalQuestion(**(values | changed))
