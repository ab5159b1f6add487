"""Pairs of answers of which one is preferred, as LLaVA-Hound releases them.

A row of the .jsonl is {"id", "video", "prompt", "answer", "chosen", "rejected", "chosen_score", "rejected_score"}:
`video` is a folder of frames or a video file ("image" or "frame" name a picture instead), `prompt` the question with or
without its tag, `answer` the true answer. A row becomes a record whose two answers are branches of one tree: what comes
before them, the video above all, stands once.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vidlmm.data.errors import DataError
from vidlmm.data.records import TAG, Kind, MediaRef, Record
from vidlmm.text.conversation import Turn

CHOSEN, REJECTED = 1, 2  # branches of a pair's tree
_MEDIA: dict[str, Kind] = {"video": "video", "image": "image", "frame": "image"}
_FIELDS = ("id", *_MEDIA, "prompt", "answer", "chosen", "rejected", "chosen_score", "rejected_score")


@dataclass(frozen=True)
class PairRow:
    """One row of a file of pairs.

    media: "video", "image" or "frame", and the path as the row has it.
    answer: the true answer, "" where it is not known. chosen_score, rejected_score: None where nobody judged.
    extra: every further field. file, line: where it stands, counted from 1.
    """

    id: str
    media: tuple[str, str]
    prompt: str
    chosen: str
    rejected: str
    answer: str = ""
    chosen_score: float | None = None
    rejected_score: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    file: str = ""
    line: int = 0

    def record(self, media_root: str | Path) -> Record:
        """The pair as a record of two branches, for `turns="branches"`."""
        ref = MediaRef(_MEDIA[self.media[0]], str(Path(media_root) / self.media[1]))
        answers = (self.chosen, self.rejected)
        return replace(answers_record(self.id, [ref], self.prompt, answers, self.file, self.line - 1), together=2)

    def as_row(self) -> dict[str, Any]:
        """The row as it is written."""
        told = {"answer": self.answer or None, "chosen_score": self.chosen_score, "rejected_score": self.rejected_score}
        row = {"id": self.id, self.media[0]: self.media[1], "prompt": self.prompt, "answer": told["answer"]}
        row |= {"chosen": self.chosen, "rejected": self.rejected} | told
        return {key: value for key, value in row.items() if value is not None} | self.extra


def answers_record(
    id: str, media: Sequence[MediaRef], question: str, answers: Sequence[str], file: str = "", index: int = 0
) -> Record:
    """One question about some media with several answers, each a branch of one tree.

    The media's tags stand before the question, wherever it has them (LLaVA-Hound does the same in all its stages).

    Raises:
        DataError: no answer.
    """
    if not answers:
        raise DataError(f"{file or '<memory>'}, record {index} (id {id!r}): no answer is given; give at least one")
    bare = TAG.sub("", question).strip()
    first = "".join(f"<{ref.kind}>\n" for ref in media) + bare
    asked = [first, *[bare] * (len(answers) - 1)]
    turns = (turn for q, a in zip(asked, answers, strict=True) for turn in (Turn("user", q), Turn("assistant", a)))
    return Record(id=id, media=tuple(media), turns=tuple(turns), file=file, index=index)


def one_tree(pairs: Sequence[Record]) -> Record:
    """Pairs about the same media (`PairRow.record`) as one tree: branches 2p + 1 and 2p + 2 are the chosen and the
    rejected answer of pair p.

    Raises:
        ValueError: pairs about different media.
    """
    first, *more = pairs
    if any(pair.media != first.media for pair in more):
        raise ValueError(f"a tree is about the same media, got {[pair.media for pair in pairs]}")
    # The media stand before the first question.
    later = [replace(t, text=TAG.sub("", t.text).strip()) if t.role == "user" else t for p in more for t in p.turns]
    return replace(first, id=" ".join(pair.id for pair in pairs), turns=(*first.turns, *later))


def pairs_of(tree: Record) -> int:
    """The number of pairs of such a tree, whole or split."""
    return len(tree.turns) // 4


def read_pairs(path: str | Path) -> list[PairRow]:
    """All rows of a .jsonl file of pairs.

    Raises:
        DataError: no such file, no row, or a row that is malformed; the message names the file and the line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file of pairs; `vidlmm preference pairs` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from None
    rows = [pair_from_line(line, str(path), number) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise DataError(f"{path}: no pairs; expected one a line")
    return rows


def pair_from_line(text: str, file: str = "", line: int = 0) -> PairRow:
    """One line of a file of pairs.

    Raises:
        DataError: not JSON, a field that is missing or of another kind, or two answers that are the same.
    """
    place = f"{file or '<memory>'}, line {line}"
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not JSON: {error}") from None
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: expected an object with prompt, chosen and rejected, got {type(row).__name__}")
    if not isinstance(row.get("id"), str | int) or isinstance(row["id"], bool):
        raise DataError(f"{place}: 'id' must be a text or a number, got {row.get('id')!r:.80}")
    place = f"{place} (id {str(row['id'])!r})"
    shown = [key for key in _MEDIA if row.get(key) is not None]
    if len(shown) != 1:
        raise DataError(f"{place}: expected one of {', '.join(map(repr, _MEDIA))}, got {shown or 'none'}")
    texts = {key: _text(row, key, place) for key in (shown[0], "prompt", "chosen", "rejected")}
    if texts["chosen"] == texts["rejected"]:
        raise DataError(f"{place}: 'chosen' and 'rejected' are the same text, so nothing is preferred")
    if TAG.search(texts["chosen"] + texts["rejected"]):
        raise DataError(f"{place}: an answer has a media tag; only the prompt may have one")
    return PairRow(
        id=str(row["id"]),
        media=(shown[0], texts[shown[0]]),
        prompt=texts["prompt"],
        chosen=texts["chosen"],
        rejected=texts["rejected"],
        answer=_text(row, "answer", place) if row.get("answer") else "",
        chosen_score=_score(row, "chosen_score", place),
        rejected_score=_score(row, "rejected_score", place),
        extra={key: value for key, value in row.items() if key not in _FIELDS},
        file=file,
        line=line,
    )


def pair_lines(rows: Iterable[PairRow]) -> str:
    """The text of a file of these pairs."""
    return "".join(json.dumps(row.as_row(), ensure_ascii=False) + "\n" for row in rows)


def _text(row: Mapping[str, Any], key: str, place: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: {key!r} must be a text with something in it, got {value!r:.80}")
    return value


def _score(row: Mapping[str, Any], key: str, place: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{place}: {key!r} must be a number, got {value!r:.80}")
    return float(value)
