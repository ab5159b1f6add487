"""`vidlmm eval` on a real run: a folder with random weights, clips, and a file of questions."""

import json
from pathlib import Path

import jax.numpy as jnp
import pytest
from flax import nnx

from vidlmm.checkpoint.names import named
from vidlmm.checkpoint.run import begin_run, finish_run
from vidlmm.cli.main import main
from vidlmm.models import VideoLM

from .cases import multiple_choice, open_question, row, write


@pytest.fixture(scope="module")
def run(tmp_path_factory, tokenizer_dir: Path, spec) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    made = begin_run(folder, {"name": "tiny"}, spec, tokenizer_dir / "tokenizer.json")
    params = named(nnx.state(VideoLM(spec, rngs=nnx.Rngs(0)), nnx.Param))
    finish_run(made, params, jnp.float32, {"steps": 0})
    return folder


@pytest.fixture
def data(tmp_path: Path, clips: Path) -> Path:
    mc = multiple_choice("Which way?", ("left", "right"), "right", type="Object Direction", motion=True)
    rows = [row(f"c{n}", mc, open_question("How many?", "two"), video=f"clip{n}.mp4") for n in range(2)]
    return write(tmp_path / "held.json", *rows)


def evaluate(run: Path, data: Path, clips: Path, *more: str) -> int:
    return main(["eval", str(run), "--data", str(data), "--media-root", str(clips), "--max-new-tokens", "4", *more])


def test_scores_and_answers_are_written(run, data, clips, tmp_path, capsys) -> None:
    assert evaluate(run, data, clips) == 0
    table = capsys.readouterr().out
    assert "Multiple choice" in table
    assert "Object Direction *" in table
    out = run / "evals" / "held"
    scores = json.loads((out / "scores.json").read_text())
    assert [row["count"] for row in scores["scores"]] == [2, 2, 2, 2, 2]
    assert len(scores["manifest"]["weights_sha256"]) == 64
    # the same command again asks nothing and says the same
    before = (out / "answers.jsonl").read_bytes()
    assert evaluate(run, data, clips) == 0
    assert capsys.readouterr().out == table
    assert (out / "answers.jsonl").read_bytes() == before
    # other sampling is another evaluation
    assert evaluate(run, data, clips, "--max-new-tokens", "5") == 1
    assert "sampling was" in capsys.readouterr().err


def test_some_questions_with_a_training_majority(run, data, clips, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    more = ("--out", str(out), "--training", str(data), "--kind", "multiple_choice", "--limit", "1")
    assert evaluate(run, data, clips, *more) == 0
    assert "the training questions" in capsys.readouterr().out
    scores = json.loads((out / "scores.json").read_text())
    assert (scores["majority_from"], scores["scores"][0]["majority"]) == ("training", 1.0)
    assert len((out / "answers.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"run": "nowhere"}, "spec.json"),
        ({"data": "nowhere.json"}, "no such annotation file"),
        ({"clips": "nowhere"}, "media files are missing"),
    ],
)
def test_mistakes_are_one_line(run, data, clips, capsys, change, message) -> None:
    given = {"run": run, "data": data, "clips": clips} | {key: Path(value) for key, value in change.items()}
    assert evaluate(**given) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("vidlmm eval: ")
    assert message in error
