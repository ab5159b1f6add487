"""Annotation rows in the LLaVA format into checked records.

A row is {"id", "conversations": [{"from", "value"}, ...], "image" | "video": path or list of paths}.
LLaVA-Video-178K marks a video with `<image>` in the first human turn, Valley and Hound with `<video>`;
both are read. (LLaVA-NeXT `train.py`, LazySupervisedDataset.)
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidlmm.data.errors import DataError
from vidlmm.text.conversation import Turn

TAG = re.compile("<image>|<video>")
_ROLES: dict[str, Literal["user", "assistant", "system"]] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_KNOWN = {"id", "conversations", "image", "video", "data_source"}


@dataclass(frozen=True)
class MediaRef:
    """A picture or a video that a record shows. path: absolute, or joined with the media root."""

    kind: Literal["image", "video"]
    path: str


@dataclass(frozen=True)
class Record:
    """One checked conversation about some media.

    media: in the order in which the tags of the turns stand.
    turns: user and assistant in turn, perhaps after a system turn; tags are part of the text.
    source: the row's `data_source`, or "".
    file, index: the annotation file and the row's number in it, from 0.
    extra: every further field of the row (question type, time window, ...).
    """

    id: str
    media: tuple[MediaRef, ...]
    turns: tuple[Turn, ...]
    source: str = ""
    file: str = ""
    index: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where the record stands, for messages."""
        return f"{self.file or '<memory>'}, record {self.index} (id {self.id!r})"


def read_records(path: str | Path, media_root: str | Path | None = None) -> list[Record]:
    """All records of a .json (a list) or .jsonl (a row a line) file.

    Args:
        media_root: folder that relative media paths start from; None is the file's own folder.

    Raises:
        DataError: the file is missing or not JSON, or a row breaks the format; the message names
            the file, the row and its id.
    """
    path = Path(path)
    root = path.parent if media_root is None else Path(media_root)
    return [record_from_row(row, root, file=str(path), index=index) for index, row in _rows(path)]


def record_from_row(row: Any, media_root: str | Path, file: str = "", index: int = 0) -> Record:
    """One row of an annotation file as a record.

    Raises:
        DataError: missing fields, roles that do not alternate, empty answers, or tags that do not
            match the media.
    """
    place = f"{file or '<memory>'}, record {index}"
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: expected an object with 'conversations', got {type(row).__name__}")
    name = str(row.get("id", index))
    place = f"{place} (id {name!r})"
    turns = _turns(row, place)
    return Record(
        id=name,
        media=_media(row, turns, Path(media_root), place),
        turns=turns,
        source=str(row.get("data_source", "")),
        file=file,
        index=index,
        extra={key: value for key, value in row.items() if key not in _KNOWN},
    )


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such annotation file; expected a .json or .jsonl file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a text file: {error}") from None
    if path.suffix == ".jsonl":
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        for index, (number, line) in enumerate(lines):
            try:
                yield index, json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}, line {number}: not JSON: {error}") from None
        return
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not JSON: {error}; a file with a row a line must be named .jsonl") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a list of rows, got {type(rows).__name__}")
    yield from enumerate(rows)


def _turns(row: Mapping[str, Any], place: str) -> tuple[Turn, ...]:
    said = row.get("conversations")
    if not isinstance(said, list) or not said:
        raise DataError(f"{place}: 'conversations' must be a list of turns, got {said!r:.80}")
    turns = tuple(_turn(entry, f"{place}, turn {number}") for number, entry in enumerate(said))
    spoken = turns[1:] if turns[0].role == "system" else turns
    for number, turn in enumerate(spoken):
        expected = "user" if number % 2 == 0 else "assistant"
        if turn.role != expected:
            roles = ", ".join(t.role for t in turns)
            raise DataError(f"{place}: turns must alternate user, assistant, ...; got {roles}")
        if turn.role == "assistant" and not turn.text.strip():
            raise DataError(f"{place}: the answer of turn {number} is empty, so nothing of it can be trained")
    if not spoken or len(spoken) % 2:
        raise DataError(f"{place}: the last turn must be an answer; got {len(spoken)} turns without the system's")
    return turns


def _turn(entry: Any, place: str) -> Turn:
    if not isinstance(entry, Mapping):
        raise DataError(f"{place}: expected an object with 'from' and 'value', got {type(entry).__name__}")
    role = entry.get("from", entry.get("role"))
    text = entry.get("value", entry.get("content"))
    if role not in _ROLES:
        raise DataError(f"{place}: unknown role {role!r}; known are {sorted(_ROLES)}")
    if not isinstance(text, str):
        raise DataError(f"{place}: the text ('value' or 'content') must be a string, got {text!r:.80}")
    return Turn(role=_ROLES[role], text=text)


def _paths(row: Mapping[str, Any], key: str, root: Path, place: str) -> list[str]:
    value = row.get(key)
    if value is None:
        return []
    paths = value if isinstance(value, list) else [value]
    if not all(isinstance(path, str) and path for path in paths):
        raise DataError(f"{place}: {key!r} must be a path or a list of paths, got {value!r:.80}")
    return [str(root / path) for path in paths]


def _media(row: Mapping[str, Any], turns: tuple[Turn, ...], root: Path, place: str) -> tuple[MediaRef, ...]:
    """The media in the order of their tags; a video may be marked `<image>` if the row has no image."""
    images, videos = _paths(row, "image", root, place), _paths(row, "video", root, place)
    for number, turn in enumerate(turns):
        if turn.role != "user" and TAG.search(turn.text):
            raise DataError(f"{place}: turn {number} ({turn.role}) has a media tag; only user turns show media")
    tags = [tag for turn in turns for tag in TAG.findall(turn.text)]
    if images and videos:
        fits = tags.count("<image>") == len(images) and tags.count("<video>") == len(videos)
    else:
        fits = len(tags) == len(images) + len(videos) and (bool(videos) or "<video>" not in tags)
    if not fits:
        raise DataError(
            f"{place}: tags and media do not match: the turns have {tags.count('<image>')} <image> and "
            f"{tags.count('<video>')} <video>, the row names {len(images)} image(s) and {len(videos)} video(s); "
            "every tag needs its own medium"
        )
    queues = {"<image>": iter(images or videos), "<video>": iter(videos)}
    if not images:
        queues["<video>"] = queues["<image>"]
    kinds: dict[str, Literal["image", "video"]] = {"<image>": "image" if images else "video", "<video>": "video"}
    return tuple(MediaRef(kind=kinds[tag], path=next(queues[tag])) for tag in tags)
