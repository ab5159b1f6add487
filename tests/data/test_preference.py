"""Files of pairs: read as released, written back, refused with file and line."""

import json
from pathlib import Path
from typing import Any

import pytest

from vidlmm.data.errors import DataError
from vidlmm.data.preference import answers_record, one_tree, pair_lines, pairs_of, read_pairs
from vidlmm.data.records import MediaRef
from vidlmm.data.sample import make_sample, split_rounds

ROW: dict[str, Any] = {
    "id": "v1_0", "video": "clips/v1", "prompt": "<video>\nWhat happens?", "answer": "A man runs.",
    "chosen": "A man runs.", "rejected": "A dog sleeps.", "chosen_score": 5, "rejected_score": 1,
}  # fmt: skip


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_rows_are_read_as_released_and_written_back(tmp_path: Path) -> None:
    least = {key: ROW[key] for key in ("id", "video", "prompt", "chosen", "rejected")}
    rows = [ROW | {"origin": "webvid"}, least | {"id": 7}, {**least, "frame": "a.jpg", "video": None}]
    path = write(tmp_path, rows[0], "", *rows[1:])
    one, two, three = read_pairs(path)
    assert (one.media, one.chosen_score, one.extra, one.line) == (("video", "clips/v1"), 5.0, {"origin": "webvid"}, 1)
    assert (two.id, two.answer, two.chosen_score, two.line) == ("7", "", None, 3)
    assert three.record("root").media == (MediaRef("image", "root/a.jpg"),)
    again = tmp_path / "again.jsonl"
    again.write_text(pair_lines([one, two, three]))
    assert json.loads(again.read_text().splitlines()[0]) == rows[0]
    assert pair_lines(read_pairs(again)) == again.read_text()


def test_pairs_about_one_video_are_one_tree(tmp_path: Path) -> None:
    other = ROW | {"id": "v1_1", "prompt": "Who is it?", "chosen": "A man.", "rejected": "A dog."}
    one, two, three = (row.record("root") for row in read_pairs(write(tmp_path, ROW, other, ROW | {"video": "v2"})))
    tree = one_tree([one, two])
    assert (tree.id, tree.media, pairs_of(tree), pairs_of(one)) == ("v1_0 v1_1", one.media, 2, 1)
    rounds = [[turn.text for turn in said] for said in split_rounds(tree.turns)]
    assert rounds == [[turn.text for turn in said] for r in (one, two) for said in split_rounds(r.turns)]
    assert rounds[3] == ["<video>\nWho is it?", "A dog."]
    with pytest.raises(ValueError, match="the same media, got .*v2"):
        one_tree([one, three])


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("{", "not JSON"),
        ([1], "expected an object"),
        (ROW | {"id": None}, "'id' must be a text or a number"),
        (ROW | {"video": None}, "expected one of 'video', 'image', 'frame', got none"),
        (ROW | {"image": "a.jpg"}, "got \\['video', 'image'\\]"),
        (ROW | {"prompt": 3}, "'prompt' must be a text"),
        (ROW | {"chosen": "  "}, "'chosen' must be a text"),
        (ROW | {"rejected": ROW["chosen"]}, "the same text"),
        (ROW | {"rejected": "see <video>"}, "media tag"),
        (ROW | {"chosen_score": "5"}, "'chosen_score' must be a number"),
        (ROW | {"rejected_score": float("nan")}, "'rejected_score' must be a number"),
    ],
)
def test_a_malformed_row_is_told_with_file_and_line(tmp_path: Path, row: Any, why: str) -> None:
    path = write(tmp_path, ROW, row)
    with pytest.raises(DataError, match=rf"pairs\.jsonl, line 2.*{why}"):
        read_pairs(path)


def test_no_file_and_no_row_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file of pairs"):
        read_pairs(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="no pairs"):
        read_pairs(write(tmp_path))


def test_answers_are_branches_of_one_tree(clips: Path, spec: Any, tokenizer: Any) -> None:
    """Wherever the tag stood, it stands before the question; the video's places and frames stand once."""
    ref = MediaRef("video", str(clips / "clip0.mp4"))
    record = answers_record("q", [ref], "What <video> moves? ", ["a square", "a cat", "a square"])
    assert [[turn.text for turn in part] for part in split_rounds(record.turns)] == [
        ["<video>\nWhat  moves?", answer] for answer in ("a square", "a cat", "a square")
    ]
    row = make_sample(record, spec, tokenizer, turns="branches").row
    alone = [
        make_sample(answers_record("q", [ref], "What  moves?", [a]), spec, tokenizer).row for a in ("a square", "a cat")
    ]
    assert row.branch.max() == 3 and row.frames == alone[0].frames
    for branch, other in ((1, alone[0]), (2, alone[1]), (3, alone[0])):
        # A branch begins with its own copy of the last place that all share.
        own = (row.branch == branch) | ((row.branch == 0) & (row.position < row.position[row.branch == branch].min()))
        assert (row.row[own] == other.row).all() and (row.position[own] == other.position).all()
        scored = ((row.branch == branch) | (row.branch == 0)) & (row.weight > 0)
        assert (row.target[scored] == other.target[other.weight > 0]).all()
    with pytest.raises(DataError, match="no answer"):
        answers_record("q", [ref], "What?", [])
