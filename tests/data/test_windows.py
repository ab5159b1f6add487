"""A clip of a longer film: its window is read in training as it is when a question is asked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.conftest import talk
from tests.media import clips
from vidlmm.data.cache import FrameCache
from vidlmm.data.errors import DataError
from vidlmm.data.needs import Counting, plan_records
from vidlmm.data.pipeline import Pipeline
from vidlmm.data.records import Record, record_from_row
from vidlmm.data.sample import Loader, make_row, make_sample
from vidlmm.data.shapes import Shapes
from vidlmm.data.show import show_record
from vidlmm.evals.ask import ask_all, prompt
from vidlmm.evals.journal import Journal
from vidlmm.evals.questions import questions_of
from vidlmm.generate.prompts import show
from vidlmm.media.sound import sound_of_video, waveform
from vidlmm.media.video import load_video
from vidlmm.media.waveforms import video_features
from vidlmm.spec import AudioSpec, ModelSpec

FRAMES, RATE = 60, 10


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds, whose tone gets louder."""
    return clips.make(tmp_path_factory.mktemp("films") / "film.mp4", FRAMES, rate=RATE, sound=True)


def record(film: Path, **fields: Any) -> Record:
    row = {"id": "r", "video": film.name, "conversations": talk("<image>\nWhat?", "That."), **fields}
    return record_from_row(row, film.parent, file="rows.json")


def told(spec: ModelSpec) -> ModelSpec:
    return replace(spec, frames=replace(spec.frames, rule="midpoints", time_text="llavaction"))


@pytest.mark.parametrize("rule", ["midpoints", "linspace", "segment_centres", "fps_upbound"])
def test_training_sees_the_frames_that_are_asked_about(rule: Any, film: Path, spec: ModelSpec, tokenizer: Any) -> None:
    spec = replace(spec, frames=replace(spec.frames, rule=rule, time_text="llavaction"))
    clip = record(film, start_timestamp=2.0, end_timestamp=4.0)
    seen = load_video(film, spec.frames, spec.pixels, window=(2.0, 4.0))
    assert min(seen.choice.indices) >= 19 and max(seen.choice.indices) <= 40
    trained = make_sample(clip, spec, tokenizer)
    np.testing.assert_array_equal(trained.frames, seen.frames)
    (question,) = questions_of(clip)
    asked = prompt(question, [show("video", film, spec, window=(2.0, 4.0))], spec, tokenizer)
    np.testing.assert_array_equal(asked.frames, seen.frames)
    # Both say how long the clip is, and place the same tokens up to the answer.
    places = make_row(clip, [seen.choice], spec, tokenizer, with_labels=False)
    np.testing.assert_array_equal(asked.row.row, places.row)
    said = tokenizer.decode(places.row[places.table == 1].tolist(), skip_special=False)
    assert "The provided video lasts for 2.000 seconds, and 4 frames" in said


def test_questions_about_other_windows_of_a_film_are_of_other_clips(
    film: Path, spec: ModelSpec, tokenizer: Any, tmp_path: Path
) -> None:
    rows = [record(film, id=f"r{n}", start_timestamp=float(n), end_timestamp=n + 1.0) for n in range(3)]
    questions = [question for row in rows for question in questions_of(row)]
    assert len({question.clip for question in questions}) == 3
    seen: list[np.ndarray] = []

    def answer(prompts: Any) -> list[str]:
        seen.extend(one.frames for one in prompts[: len(questions)])
        return [""] * len(prompts)

    with Journal(tmp_path / "answers.jsonl", {}) as journal:
        ask_all(questions, answer, journal, spec, tokenizer)
    for number, frames in enumerate(seen):
        wanted = load_video(film, spec.frames, spec.pixels, window=(float(number), number + 1.0)).frames
        np.testing.assert_array_equal(frames, wanted)


def test_the_cache_knows_windows(film: Path, spec: ModelSpec, tmp_path: Path) -> None:
    loader = Loader(spec, cache=FrameCache(str(tmp_path / "cache")))
    rows = [record(film), record(film, start_timestamp=1.0), record(film, start_timestamp=1.0, end_timestamp=2.0)]
    first = [loader.open(row.media[0]) for row in rows]
    assert len(list((tmp_path / "cache").glob("*/*.safetensors"))) == 3
    for one, row in zip(first, rows, strict=True):
        again = loader.open(row.media[0])
        np.testing.assert_array_equal(one.frames, again.frames)
        assert one.choice == again.choice
    assert len({one.choice for one in first}) == 3


def test_a_window_is_heard_alone(film: Path, spec: ModelSpec) -> None:
    heard = waveform(film)
    wanted = video_features(heard[16000 : 16000 * 4])
    np.testing.assert_array_equal(sound_of_video(film, window=(1.0, 4.0)), wanted)
    np.testing.assert_array_equal(sound_of_video(film, window=(None, None)), sound_of_video(film))
    hears = replace(spec, audio=AudioSpec())
    shown = Loader(hears).open(record(film, start_timestamp=1, end_timestamp=4).media[0])
    np.testing.assert_array_equal(shown.sound, wanted)


def test_a_window_behind_the_end_names_its_record(film: Path, spec: ModelSpec, tokenizer: Any) -> None:
    late = record(film, start_timestamp=7.5, end_timestamp=9.0)
    with (
        Pipeline([late], told(spec), tokenizer, Shapes(1, 300, 4)) as pipeline,
        pytest.raises(DataError, match=r"rows.json, record 0 \(id 'r'\): the window starts at 7.5 s, behind the last"),
    ):
        next(pipeline)


def test_a_window_of_a_film_of_unknown_frames_is_planned_at_its_most(
    film: Path, spec: ModelSpec, tokenizer: Any
) -> None:
    """Two frames a second: a second of the film gives two of them, and room is kept for the most that a film gives."""
    spec = replace(spec, frames=replace(spec.frames, force_sample=False, fps=2.0, time_text="llava_video"))
    rows = [record(film, start_timestamp=1, end_timestamp=2, duration=6, fps=10), record(film, duration=6, fps=10)]
    _, needs = plan_records(rows, Counting(spec, tokenizer, "conversation"), 400, "error")
    made = make_sample(rows[0], spec, tokenizer)
    assert made.row.frames == 2 < needs[0].most.frame == 4 and len(made.row) < needs[0].places
    with Pipeline(rows, spec, tokenizer, Shapes(1, 600, 8), packed=True, epochs=1) as pipeline:
        assert sum(len(set(batch.segment[0].tolist()) - {0}) for batch in pipeline) == 2


def test_a_record_is_shown_with_its_window(film: Path, spec: ModelSpec, tokenizer: Any) -> None:
    text = show_record(record(film, start_timestamp=2, end_timestamp=4), told(spec), tokenizer, colour=False)
    assert f"video {film} from 2 s to 4 s: frames at 2." in text
    assert f"{film} from 0 s to 4 s" in show_record(record(film, end_timestamp=4), spec, tokenizer, colour=False)
