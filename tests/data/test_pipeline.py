"""Records on disk become batches: the same for every number of workers, resumable, with bad files replaced."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.data.conftest import talk
from vidlmm.data.cache import FrameCache
from vidlmm.data.errors import BadDataLimit, DataError
from vidlmm.data.mixture import read_data
from vidlmm.data.pipeline import Pipeline
from vidlmm.data.records import record_from_row
from vidlmm.data.sample import Loader, make_row
from vidlmm.data.shapes import Shapes
from vidlmm.data.stream import Reading, Tolerance
from vidlmm.layout import Item, Table
from vidlmm.media.shown import STILL

SHAPES = Shapes(rows=2, length=256, frames=10)


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    made = [
        {"id": f"v{i}", "video": f"clip{i}.mp4", "conversations": talk("<image>\nQ?", f"A{i}.", "R?", f"B{i}.")}
        for i in range(6)
    ]
    made.append({"id": "picture", "image": "picture.png", "conversations": talk("<image>\nColour?", "Grey.")})
    made.append({"id": "text", "conversations": talk("Hello?", "Hello.")})
    return made


@pytest.fixture
def records(rows, clips, write_rows):
    return read_data(write_rows(rows), media_root=clips)


def equal(one, other) -> bool:
    return all(
        np.array_equal(getattr(one, k), v) and getattr(one, k).dtype == v.dtype for k, v in other.arrays().items()
    )


def take(pipeline: Pipeline, count: int) -> list:
    return [next(pipeline) for _ in range(count)]


@pytest.mark.parametrize("packed", [False, True])
def test_shapes_are_static_and_every_record_comes_once(records, spec, tokenizer, packed):
    with Pipeline(records, spec, tokenizer, SHAPES, packed=packed, epochs=1) as pipeline:
        batches = list(pipeline)
    assert len(batches) == pipeline.batches() == pipeline.batches_an_epoch()
    shapes = {k: (v.shape, v.dtype.name) for k, v in batches[0].arrays().items()}
    assert shapes["frames"] == ((10, 16, 16, 3), "uint8")
    assert shapes["table"] == ((2, 256), "int32") and shapes["weight"] == ((2, 256), "float32")
    for batch in batches:
        assert {k: (v.shape, v.dtype.name) for k, v in batch.arrays().items()} == shapes
    answers = "".join(
        tokenizer.decode(b.target[r][b.weight[r] > 0].tolist()) for b in batches for r in range(SHAPES.rows)
    )
    for said in [f"A{i}." for i in range(6)] + [f"B{i}." for i in range(6)] + ["Grey.", "Hello."]:
        assert answers.count(said) == 1


def test_packing_needs_fewer_batches(records, spec, tokenizer):
    plain, packed = (Pipeline(records, spec, tokenizer, SHAPES, packed=p, epochs=1) for p in (False, True))
    assert packed.batches_an_epoch() < plain.batches_an_epoch()
    with packed:
        assert max(int(batch.segment.max()) for batch in packed) > 1


@pytest.mark.parametrize("turns", ["conversation", "branches"])
def test_equal_batches_and_resume_with_other_workers(records, spec, tokenizer, turns):
    def make(workers: int) -> Pipeline:
        reading = Reading(workers=workers, threads=1, ahead=2)
        return Pipeline(records, spec, tokenizer, SHAPES, turns=turns, packed=True, seed=3, reading=reading)

    with make(0) as pipeline:
        whole = take(pipeline, 3)
        saved = json.loads(json.dumps(pipeline.state()))
        whole += take(pipeline, 5)
    with make(2 if turns == "branches" else 0) as later:
        later.restore(saved)
        rest = take(later, 5)
    assert all(equal(a, b) for a, b in zip(whole[3:], rest, strict=True))
    assert not equal(whole[0], whole[1])


def test_branches_show_the_video_once(records, spec, tokenizer):
    with Pipeline(records[:2], spec, tokenizer, SHAPES, turns="branches", shuffle=False) as pipeline:
        batch = next(pipeline)
    assert int(batch.branch.max()) == 2
    assert [(row == Table.VISUAL).sum() for row in batch.table] == [16, 16]


def test_shapes_that_packing_cannot_fill_are_told(spec, tokenizer, clips):
    """Three records of 40 places and 4 frames fit a row, and the frames of one."""
    rows = [{"id": str(n), "video": "clip0.mp4", "conversations": talk("<image>\nQ?", f"A{n:03}.")} for n in range(70)]
    records = [record_from_row(row, clips) for row in rows]

    def told(frames: int) -> str:
        shapes = Shapes(rows=1, length=300, frames=frames)
        return Pipeline(records, spec, tokenizer, shapes, packed=True).unfilled() or ""

    places = len(make_row(records[0], [STILL], spec, tokenizer, items=[Item("video", 4)]))
    fit = 300 // places
    assert f"fills {places / 300:.0%} of the places and 100% of the frames" in told(4)
    assert f"{places / 4:.0f} places a frame" in told(4)
    assert f"so {round(300 * 4 / places)} frames" in told(4)
    assert fit > 1 and told(4 * fit) == ""


def test_seeds_give_other_orders(records, spec, tokenizer):
    firsts = []
    for seed in range(4):
        with Pipeline(records, spec, tokenizer, SHAPES, seed=seed) as pipeline:
            firsts.append(next(pipeline).row.tobytes())
    assert len(set(firsts)) > 1


def test_bad_files_are_replaced_and_reported(rows, clips, write_rows, spec, tokenizer):
    broken = [
        {"id": "b", "video": "broken.mp4", "conversations": talk("<image>\nQ?", "Never seen.")},
        {"id": "m", "video": "missing.mp4", "conversations": talk("<image>\nQ?", "Never seen.")},
    ]
    records = read_data(write_rows(rows + broken), media_root=clips)
    with Pipeline(records, spec, tokenizer, SHAPES, tolerance=Tolerance(records=2), epochs=2) as pipeline:
        batches = list(pipeline)
    assert {(bad.id, bad.kind) for bad in pipeline.bad} == {("b", "not_media"), ("m", "missing")}
    assert all("rows.json, record" in bad.place for bad in pipeline.bad)
    said = "".join(tokenizer.decode(b.target[r][b.weight[r] > 0].tolist()) for b in batches for r in range(2))
    assert "Never" not in said
    assert sum(int((b.segment.max(axis=1) > 0).sum()) for b in batches) == 2 * len(records)
    with (
        Pipeline(records, spec, tokenizer, SHAPES, tolerance=Tolerance(records=1)) as strict,
        pytest.raises(BadDataLimit, match="2 of .* could not be read"),
    ):
        take(strict, 10)


def test_a_wrong_media_root_stops_at_once(rows, write_rows, tmp_path, spec, tokenizer):
    records = read_data(write_rows(rows[:6]), media_root=tmp_path / "elsewhere")
    with (
        Pipeline(records, spec, tokenizer, SHAPES) as pipeline,
        pytest.raises(BadDataLimit, match="elsewhere/clip.*missing"),
    ):
        next(pipeline)


def test_a_record_that_is_too_long(records, spec, tokenizer):
    short = Shapes(rows=2, length=100, frames=10)
    with pytest.raises(DataError, match=r"rows.json, record 0 \(id 'v0'\): takes \d+ places, a row has 100"):
        Pipeline(records, spec, tokenizer, short, packed=True)
    with (
        Pipeline(records[:1], spec, tokenizer, short) as pipeline,
        pytest.raises(DataError, match=r"rows.json, record 0 \(id 'v0'\): takes \d+ places, a row has 100"),
    ):
        next(pipeline)
    with Pipeline(records, spec, tokenizer, short, packed=True, overlong="truncate", epochs=1) as pipeline:
        assert all(batch.table.shape == (2, 100) for batch in pipeline)


def test_too_few_frames_in_a_batch(records, spec, tokenizer):
    with pytest.raises(DataError, match="can show 8 frames, a batch holds 7"):
        Pipeline(records, spec, tokenizer, Shapes(rows=2, length=256, frames=7))


def test_frames_without_a_bound(records, spec, tokenizer):
    unbounded = replace(spec, frames=replace(spec.frames, count=0, force_sample=False))
    with pytest.raises(DataError, match="need a bound"):
        Pipeline(records, unbounded, tokenizer, SHAPES)


def test_a_folder_of_pictures_with_more_frames_than_the_bound(clips, tmp_path, write_rows, spec, tokenizer):
    (tmp_path / "shots").mkdir()
    for number in range(3):
        shutil.copy(clips / "picture.png", tmp_path / "shots" / f"{number}.png")
    rows = [{"id": "shots", "video": "shots", "conversations": talk("<image>\nQ?", "A.")}]
    records = read_data(write_rows(rows), media_root=tmp_path)
    unforced = replace(spec, frames=replace(spec.frames, force_sample=False))
    with (
        Pipeline(records, unforced, tokenizer, SHAPES) as pipeline,
        pytest.raises(DataError, match=r"record 0 \(id 'shots'\): shows 10 frames, the spec allows 4"),
    ):
        next(pipeline)


def test_a_position_of_other_records_is_refused(records, spec, tokenizer):
    state = Pipeline(records, spec, tokenizer, SHAPES).state()
    with pytest.raises(DataError, match="saved data position"):
        Pipeline(records[:-1] + records[:1], spec, tokenizer, SHAPES).restore(state)


def test_the_cache_changes_nothing(records, spec, tokenizer, tmp_path):
    with Pipeline(records, spec, tokenizer, SHAPES) as plain:
        wanted = take(plain, 8)
    loader = Loader(spec, cache=FrameCache(str(tmp_path / "cache")))
    with Pipeline(records, spec, tokenizer, SHAPES, loader=loader) as cached:
        got = take(cached, 8)
    assert all(equal(a, b) for a, b in zip(wanted, got, strict=True))
    assert len(list((tmp_path / "cache").glob("*/*.safetensors"))) == 6
