"""answers.jsonl: every answer as it comes, so that a killed evaluation goes on where it was.

The first line says what is evaluated ({"identity": {...}}); each further one holds a question's answers:
{"id", "answer", "blind_answer"} and, for people who read it, what was true and whether the answers were.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from vidlmm.evals.errors import EvalError
from vidlmm.evals.questions import EvalQuestion
from vidlmm.evals.score import judge

Answers = dict[str, tuple[str, str]]


class Journal:
    """Opens a journal, or begins one; `answers` maps a question's id to its answer and its blind answer.

    Args:
        identity: everything that an answer depends on.

    Raises:
        EvalError: the file holds answers of something else, or is no journal.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]):
        self.path = path
        plain = json.loads(json.dumps(identity))
        path.parent.mkdir(parents=True, exist_ok=True)
        rows, whole = _read(path)
        if rows:
            _check_same(path, rows[0].get("identity"), plain)
        self.answers: Answers = {row["id"]: (row["answer"], row["blind_answer"]) for row in rows[1:]}
        self._file = path.open("ab")
        self._file.truncate(whole)  # a line that a kill has cut
        if not rows:
            self._write({"identity": plain})

    def add(self, questions: Sequence[EvalQuestion], answers: Sequence[str], blind_answers: Sequence[str]) -> None:
        """Note answers; when this returns they are on the disk."""
        for question, answer, blind in zip(questions, answers, blind_answers, strict=True):
            self.answers[question.id] = (answer, blind)
            right = {"right": judge(question, answer).right, "blind_right": judge(question, blind).right}
            said = {"id": question.id, "answer": answer, "blind_answer": blind, "truth": question.truth}
            self._write(said | right, sync=False)
        self._file.flush()
        os.fsync(self._file.fileno())

    def _write(self, row: Mapping[str, Any], sync: bool = True) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        if sync:
            self._file.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole lines, and their length in bytes; a cut last line is left out."""
    content = path.read_bytes() if path.is_file() else b""
    whole = content.rfind(b"\n") + 1
    rows = []
    for number, line in enumerate(content[:whole].splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        wanted = {"identity"} if number == 1 else {"id", "answer", "blind_answer"}
        if not isinstance(row, dict) or not wanted <= set(row):
            raise EvalError(f"{path}, line {number} is no line of a journal of answers; remove the file to begin again")
        rows.append(row)
    return rows, whole


def _check_same(path: Path, before: Any, now: Mapping[str, Any]) -> None:
    before = before if isinstance(before, dict) else {}
    changed = [
        f"{key} was {before.get(key)!r:.60}, is {now.get(key)!r:.60}"
        for key in sorted(set(before) | set(now))
        if before.get(key) != now.get(key)
    ]
    if changed:
        raise EvalError(
            f"{path} holds answers of another evaluation: {'; '.join(changed)}; "
            "give another --out, or remove the file to begin again"
        )
