"""What records take before they are decoded: exact where it can be known, split where it does not fit, kept on disk."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.conftest import talk
from vidlmm.data import facts, needs
from vidlmm.data.errors import DataError
from vidlmm.data.kept import Kept
from vidlmm.data.needs import Counting, plan_records, split_tree
from vidlmm.data.pipeline import Pipeline
from vidlmm.data.records import Record, record_from_row
from vidlmm.data.sample import make_sample, split_rounds
from vidlmm.data.shapes import Shapes
from vidlmm.spec import ModelSpec

SHAPES = Shapes(rows=2, length=256, frames=10, groups=2)


def record(root: Any, *texts: str, **fields: Any) -> Record:
    return record_from_row({"id": "r", "conversations": talk(*texts), **fields}, root, file="rows.json")


def by_time(spec: ModelSpec) -> ModelSpec:
    """Two frames a second, at most 4, told with their times."""
    return replace(spec, frames=replace(spec.frames, force_sample=False, fps=2.0, time_text="llava_video"))


@dataclass(frozen=True)
class CountingTokenizer:
    """Counts what it is asked."""

    tokenizer: Any
    calls: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def __getstate__(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer, "calls": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def encode(self, text: str, *, bos: bool = False) -> list[int]:
        self.calls.append(text)
        return self.tokenizer.encode(text, bos=bos)


def test_videos_of_other_lengths_take_what_they_show(clips: Path, tmp_path: Path, spec: ModelSpec, tokenizer: Any):
    """Clips of 10 to 15 frames at 6 a second, of which every third is shown: 4 or 5, cut to 4."""
    from tests.data.conftest import write_clip

    write_clip(tmp_path / "short.mp4", frames=4)
    spec = by_time(spec)
    rows = [
        record(tmp_path, "<image>\nQ?", "A.", video="short.mp4"),
        record(clips, "<image>\nQ?", "A.", video="clip3.mp4"),
    ]
    found, planned = plan_records(rows, Counting(spec, tokenizer, "conversation"), 1000, "error")
    assert found == rows
    assert [need.most.frame for need in planned] == [2, 4]
    for row, need in zip(rows, planned, strict=True):
        made = make_sample(row, spec, tokenizer)
        assert (len(made.row), made.row.frames) == (need.places, need.most.frame)


def test_the_annotation_goes_before_the_file(spec: ModelSpec, tokenizer: Any):
    """No file is opened. Every third frame of 0.8 s at 6 a second is 2; a whole second may have been nearly two."""
    spec = by_time(spec)
    told = [record("/none", "<image>\nQ?", "A.", video="v.mp4", duration=d, fps=6) for d in (0.8, 1.2, 1, 60)]
    unknown = record("/none", "<image>\nQ?", "A.", video="v.mp4")
    _, planned = plan_records([*told, unknown], Counting(spec, tokenizer, "conversation"), 1000, "error")
    assert [need.most.frame for need in planned] == [2, 3, 4, 4, 4]
    assert planned[0].places < planned[1].places < planned[4].places


def test_an_annotation_that_tells_too_little_is_named(clips: Path, spec: ModelSpec, tokenizer: Any):
    wrong = record(clips, "<image>\nQ?", "A.", video="clip5.mp4", duration=0.2, fps=6)
    with (
        Pipeline([wrong], by_time(spec), tokenizer, Shapes(1, 1000, 4), packed=True) as pipeline,
        pytest.raises(DataError, match=r"rows.json, record 0 \(id 'r'\): takes \d+ places"),
    ):
        next(pipeline)


@given(
    branches=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    shared=st.integers(1, 40),
    length=st.integers(40, 90),
    together=st.integers(1, 2),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_parts_of_a_tree_hold_every_question_once_and_fit(branches, shared, length, together):
    branches = [size for size in branches for _ in range(together)]
    said = [text for n in range(len(branches)) for text in (f"{'<image> ' * (n == 0)}Q{n}", f"A{n}")]
    whole = replace(record("/m", *said, video="v.mp4"), together=together)
    parts = split_tree(whole, (shared, *branches), length)
    rounds = [round for part, _ in parts for round in split_rounds(part.turns)]
    assert rounds == split_rounds(whole.turns)
    for part, places in parts:
        assert places <= length or len(part.turns) == 2 * together
        assert len(part.turns) % (2 * together) == 0
    if shared + sum(branches) <= length:
        assert parts == [(whole, shared + sum(branches))]


@pytest.mark.parametrize("packed", [False, True])
def test_no_question_is_lost_where_a_tree_is_too_long(packed: bool, clips: Path, spec: ModelSpec, tokenizer: Any):
    texts = [text for n in range(9) for text in (f"Question {n}?", f"Answer {n}.")]
    rows = [record(clips, f"<image>\n{texts[0]}", *texts[1:], video="clip0.mp4"), record(clips, "Hi", "Hello.")]
    shapes = replace(SHAPES, length=160)
    with Pipeline(rows, spec, tokenizer, shapes, turns="branches", packed=packed, epochs=1) as pipeline:
        batches = list(pipeline)
    assert len(pipeline.records) > len(rows) and {r.place for r in pipeline.records} == {r.place for r in rows}
    said = "".join(
        tokenizer.decode(b.target[r][b.weight[r] > 0].tolist(), skip_special=True) for b in batches for r in range(2)
    )
    assert [said.count(f"Answer {n}.") for n in range(9)] == [1] * 9
    # The short branches of a video share its places.
    assert max(int(b.branch.max()) for b in batches) > 1


def test_counts_are_kept_and_found_again_in_processes(
    clips: Path, tmp_path: Path, spec: ModelSpec, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(needs, "_MANY", 3)
    monkeypatch.setattr(facts, "_WORTH_KEEPING", 1)
    rows = [
        record(clips, "<image>\nQ?", f"A{n}.", *(f"{n}", "x" * n) * (n % 3), video=f"clip{n % 6}.mp4") for n in range(7)
    ]
    counted: Any = CountingTokenizer(tokenizer)

    def plan(rows: Sequence[Record], folder: Path | None, **changes: Any) -> Any:
        counting = Counting(by_time(spec), counted, "branches", folder=folder)
        return plan_records(rows, replace(counting, **changes), 1000, "error")

    wanted = plan(rows, None)
    asked = len(counted.calls)
    assert asked > 0
    # Two worker processes count, and what they found is kept.
    assert plan(rows, tmp_path, workers=2) == wanted
    monkeypatch.setattr(facts, "_open", None)
    counted.calls.clear()
    assert plan(rows, tmp_path) == wanted and not counted.calls
    # One record has changed, and is counted alone.
    changed = [replace(rows[0], turns=rows[1].turns[:2]), *rows[1:]]
    assert plan(changed, tmp_path)[1][1:] == wanted[1][1:]
    assert 0 < len(counted.calls) < asked
    counted.calls.clear()
    plan(rows, tmp_path, turns="conversation")
    assert counted.calls, "other settings are other counts"
    assert len(list(tmp_path.glob("places-*.npz"))) == 2 and (tmp_path / "media.npz").is_file()


@given(st.lists(st.dictionaries(st.integers(0, 40), st.lists(st.integers(-5, 5), max_size=3)), max_size=4))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_is_kept_is_found(steps):
    kept, known = Kept(), {}
    for step in steps:
        new = {key: values for key, values in step.items() if key not in known}
        known |= new
        kept = kept.added(np.array(list(new), np.uint64), list(new.values()))
    found = kept.find(np.arange(41, dtype=np.uint64))
    assert found == [tuple(map(float, known[key])) if key in known else None for key in range(41)]


def test_a_file_of_counts_that_does_not_read_counts_as_none(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file = tmp_path / "deep" / "places.npz"
    assert len(Kept.load(file).keys) == 0 and not caplog.records
    kept = Kept().added(np.array([7, 3], np.uint64), [(1.0, 2.0), ()])
    kept.save(file)
    assert Kept.load(file).find(np.array([3, 7, 8], np.uint64)) == [(), (1.0, 2.0), None]
    file.write_bytes(file.read_bytes()[:90])
    assert len(Kept.load(file).keys) == 0
    assert "found anew" in caplog.text


def test_state_holds_for_any_process_count(clips: Path, spec: ModelSpec, tokenizer: Any):
    """The parts of two processes are the arrays of one, from a position that one process saved."""
    rows = [record(clips, "<image>\nQ?", f"A{n}.", video=f"clip{n}.mp4") for n in range(6)] + [
        record(clips, "Hi", "Hello.")
    ]

    def make(process: tuple[int, int]) -> Pipeline:
        return Pipeline(rows, spec, tokenizer, SHAPES, packed=True, seed=3, epochs=3, process=process)

    with make((0, 1)) as pipeline:
        next(pipeline)
        saved = json.loads(json.dumps(pipeline.state()))
        whole = [batch.arrays() for batch in pipeline]
    parts = []
    for process in ((0, 2), (1, 2)):
        with make(process) as pipeline:
            pipeline.restore(saved)
            parts.append([batch.arrays() for batch in pipeline])
    assert len(whole) == len(parts[0]) == len(parts[1]) > 1
    for one, first, second in zip(whole, *parts, strict=True):
        for name, array in one.items():
            np.testing.assert_array_equal(array, np.concatenate([first[name], second[name]]), err_msg=name)
    with pytest.raises(DataError, match="2 groups cannot be divided among 4 processes"):
        make((0, 4))
