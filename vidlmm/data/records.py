"""Annotation rows in the LLaVA format into checked records.

A row is {"id", "conversations": [{"from", "value"}, ...], "image" | "video" | "audio": path or list of paths}.
LLaVA-Video-178K marks a video with `<image>` in the first human turn, Valley and Hound with `<video>`;
both are read. A sound is marked `<audio>` (VideoLLaMA 2, branch audio_visual). With `start_timestamp` and
`end_timestamp`, in seconds or as hh:mm:ss.ss, a row's only video is seen and heard between them (LLaVAction).
(LLaVA-NeXT `train.py`, LazySupervisedDataset.)
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidlmm.data.epic import seconds
from vidlmm.data.errors import DataError
from vidlmm.data.llavaction import AS_RELEASED, Asking, asked, is_released
from vidlmm.media.sampling import Window
from vidlmm.spec.frames import TimeText
from vidlmm.text.conversation import Turn

TAG = re.compile("<image>|<video>|<audio>")
_ROLES: dict[str, Literal["user", "assistant", "system"]] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_KNOWN = {"id", "conversations", "image", "video", "audio", "data_source"}
_SIDES = ("start_timestamp", "end_timestamp")
Kind = Literal["image", "video", "audio"]


@dataclass(frozen=True)
class MediaRef:
    """A picture, a video or a sound of a record.

    path: absolute, or joined with the media root.
    window: seconds of a video between which it is seen and heard; None is all of it.
    heard: whether a system that hears takes in a video's own sound.
    """

    kind: Kind
    path: str
    window: Window | None = None
    heard: bool = True


@dataclass(frozen=True)
class Record:
    """One checked conversation about some media.

    media: in the order in which the tags of the turns stand.
    turns: user and assistant in turn, perhaps after a system turn; tags are part of the text.
    source: the row's `data_source` or `dataset_name`, or "".
    file, index: the annotation file and the row's number in it, from 0.
    extra: every further field of the row (question type, time window, ...).
    part: the name of its part of a mixture, or "".
    time_text: the sentence about its videos' times; None is the system's.
    together: questions that stay in one tree where a record is split: 2 of pairs of answers.
    """

    id: str
    media: tuple[MediaRef, ...]
    turns: tuple[Turn, ...]
    source: str = ""
    file: str = ""
    index: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    part: str = ""
    time_text: TimeText | None = None
    together: int = 1

    @property
    def place(self) -> str:
        """Where the record stands, for messages."""
        return f"{self.file or '<memory>'}, record {self.index} (id {self.id!r})"


def read_records(path: str | Path, media_root: str | Path | None = None, asking: Asking = AS_RELEASED) -> list[Record]:
    """All records of a .json (a list) or .jsonl (a row a line) file.

    Args:
        media_root: folder that relative media paths start from; None is the file's own folder.
        asking: how LLaVAction's released rows are asked.

    Raises:
        DataError: the file is missing or not JSON, or a row breaks the format; the message names
            the file, the row and its id.
    """
    path = Path(path)
    root = path.parent if media_root is None else Path(media_root)
    return [record_from_row(row, root, str(path), index, asking) for index, row in _rows(path)]


def record_from_row(
    row: Any, media_root: str | Path, file: str = "", index: int = 0, asking: Asking = AS_RELEASED
) -> Record:
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
    if is_released(row):
        try:
            row = asked(row, asking)
        except ValueError as error:
            raise DataError(f"{place}: {error}") from None
    turns = _turns(row, place)
    return Record(
        id=name,
        media=_media(row, turns, Path(media_root), place),
        turns=turns,
        source=str(row.get("data_source", row.get("dataset_name", ""))),
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
    images, videos, sounds = (_paths(row, key, root, place) for key in ("image", "video", "audio"))
    for number, turn in enumerate(turns):
        if turn.role != "user" and TAG.search(turn.text):
            raise DataError(f"{place}: turn {number} ({turn.role}) has a media tag; only user turns show media")
    tags = [tag for turn in turns for tag in TAG.findall(turn.text)]
    seen = len(tags) - tags.count("<audio>")
    if images and videos:
        fits = tags.count("<image>") == len(images) and tags.count("<video>") == len(videos)
    else:
        fits = seen == len(images) + len(videos) and (bool(videos) or "<video>" not in tags)
    if not fits or tags.count("<audio>") != len(sounds):
        found = ", ".join(f"{tags.count(tag)} {tag}" for tag in ("<image>", "<video>", "<audio>"))
        raise DataError(
            f"{place}: tags and media do not match: the turns have {found}, the row names {len(images)} image(s), "
            f"{len(videos)} video(s) and {len(sounds)} sound(s); every tag needs its own medium"
        )
    window = _window(row, len(videos), place)
    films = [MediaRef("video", path, window) for path in videos]
    stills = [MediaRef("image", path) for path in images]
    shown = iter(films if not images else stills)
    queues = {"<image>": shown, "<video>": shown if not images else iter(films)}
    queues["<audio>"] = iter([MediaRef("audio", path) for path in sounds])
    return tuple(next(queues[tag]) for tag in tags)


def _window(row: Mapping[str, Any], videos: int, place: str) -> Window | None:
    """The seconds between which a row's only video is shown; a side that is not told is open."""
    told = {name: row[name] for name in _SIDES if row.get(name) is not None}
    if not told:
        return None
    if videos != 1:
        raise DataError(f"{place}: {' and '.join(told)} are of a row's only video, and it has {videos}")
    try:
        start, end = (None if told.get(name) is None else seconds(str(told[name])) for name in _SIDES)
    except ValueError:
        raise DataError(f"{place}: {told} must be seconds, or times as hh:mm:ss.ss") from None
    if (start or 0.0) < 0 or (end is not None and end <= (start or 0.0)):
        raise DataError(f"{place}: the clip must start at 0 s or later and end after its start, got {told}")
    return start, end
