"""Every recipe of the papers trains from annotation files to a finished run, at toy size: what it trains moves at the
rate that it says, everything else stays bit for bit, and the loss falls."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.recipes import STEPS, recipes, shrink, write_init, write_media, write_tokens
from vidlmm.checkpoint.run import load_run, video_lm_skeleton
from vidlmm.models.lora import pairs_of
from vidlmm.spec import ModelSpec
from vidlmm.train.errors import RunError
from vidlmm.train.loop import train
from vidlmm.train.metrics import read_metrics
from vidlmm.train.optimizer import rate_groups, schedule
from vidlmm.train.progress import Progress
from vidlmm.train.stage import Stage, select, stage_from_config

# One of each paper and way of training: SlowFast, heads and tasks, experts, films and sounds by a pattern, part of a
# module, adapters, two stages, pairs. All others are a lane of their own (`make recipes`).
ALWAYS = (
    "llava_video_72b", "llavaction_7b", "videollama2_8x7b_finetune_released", "videollama2_av_joint",
    "valley_stage1_released", "valley_stage2_lora", "hound_sft_released", "hound_dpo",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("recipes")
    write_media(made / "media")
    write_tokens(made / "tokens")
    return made


@pytest.fixture(scope="module")
def begin(folder: Path) -> Callable[[ModelSpec], Path]:
    """The run that recipes of a model begin with, made once."""
    made: dict[Any, Path] = {}

    def find(spec: ModelSpec) -> Path:
        shapes = tuple((name, shape.shape) for name, shape in video_lm_skeleton(spec).shapes.items())
        if shapes not in made:
            made[shapes] = write_init(spec, folder / "init" / str(len(made)))
        return made[shapes]

    return find


def lanes() -> list[Any]:
    """Every recipe, with the mark of its lane."""
    return [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.recipes) for name in recipes()]


@pytest.mark.parametrize("name", lanes())
def test_a_recipe_trains(name: str, folder: Path, begin: Callable[[ModelSpec], Path], tmp_path: Path) -> None:
    settings, spec = shrink(name, tmp_path, folder / "media")
    settings |= {"init": str(begin(spec)), "tokenizer": str(folder / "tokens")}
    run = train(settings, tmp_path / "run", progress=Progress(io.StringIO()))
    before, after = (
        {key: np.asarray(value) for key, value in load_run(one)[2].items()} for one in (begin(spec), run.folder)
    )
    stages = [stage_from_config(stage) for stage in settings["stages"]]
    rows = list(read_metrics(run.metrics))
    assert [row["stage"] for row in rows] == [stage.name for stage in stages for _ in range(STEPS)]
    for number in range(len(stages)):
        first, second, third = (row["loss"] for row in rows[number * STEPS : (number + 1) * STEPS])
        assert math.isfinite(first) and second == pytest.approx(first, rel=1e-5), "the first step's rate is 0"
        assert third < second
    moved = {key: float(np.abs(after[key] - before[key]).max()) for key in before}
    trained = trained_names(stages, spec)
    assert {key for key, change in moved.items() if change > 0} == set().union(*trained)
    if len(stages) == 1:
        check_rates(stages[0], {key: moved[key] for key in trained[0]})


def trained_names(stages: list[Stage], spec: ModelSpec) -> list[set[str]]:
    """Parameters that each stage changes: what is trainable, and matrices beside which adapters stand."""
    skeleton = video_lm_skeleton(spec)
    found = []
    for stage in stages:
        adapted = {pair.of for pair in pairs_of(skeleton.params, stage.lora.modules)} if stage.lora else set()
        found.append(select(skeleton.shapes, stage.trainable) - skeleton.constants | adapted)
    return found


def check_rates(stage: Stage, moved: dict[str, float]) -> None:
    """Adam's first steps are as long as the rate, in those coordinates whose gradient stays the same."""
    share = sum(schedule(stage, STEPS, step) for step in range(STEPS))
    own = {key: change for key, change in moved.items() if stage.lora is None or not stage.lora.holds(key)}
    groups = rate_groups(stage, own)
    for number, peak in enumerate((stage.lr, *(rate for _, rate in stage.rates))):
        changes = [change for key, change in own.items() if groups[key] == number]
        if changes:
            assert 0.8 * peak * share < max(changes) < 1.1 * peak * share, number


def test_missing_data_is_told_before_anything_is_loaded(folder: Path, tmp_path: Path) -> None:
    settings, _ = shrink("hound_sft_released", tmp_path, folder / "media")
    settings |= {"init": str(tmp_path / "nowhere"), "tokenizer": str(folder / "tokens")}
    source = Path(settings["stages"][1]["source"]["path"])
    gone = source / settings["stages"][1]["source"]["mixture"][0]["json_path"]
    gone.unlink()
    with pytest.raises(RunError, match=rf"stages\.1\.source\.mixture\.0: no {gone}"):
        train(settings, tmp_path / "run", progress=Progress(io.StringIO()))
    assert not (tmp_path / "run").exists(), "another --config.stages.1.source.path may use the folder"


def test_a_file_beside_a_mixture_is_refused(folder: Path, tmp_path: Path) -> None:
    settings, _ = shrink("hound_sft", tmp_path, folder / "media")
    settings["stages"][0]["source"]["path"] = "mine.json"
    settings["tokenizer"] = str(folder / "tokens")
    with pytest.raises(RunError, match=r"stages\.0\.source\.path is the file mine\.json.*source\.mixture=\(\)"):
        train(settings, tmp_path / "run", progress=Progress(io.StringIO()))


def test_a_mixture_file_is_named_with_its_line(folder: Path, tmp_path: Path) -> None:
    settings, _ = shrink("video_llava_stage1", tmp_path, folder / "media")
    (tmp_path / "mine.yaml").write_text("datasets:\n  - json_path: there.json\n\n  - json_path: gone.json\n")
    (tmp_path / "there.json").write_text("[]")
    settings["stages"][0]["source"] |= {"path": str(tmp_path / "mine.yaml"), "mixture": []}
    settings |= {"init": str(tmp_path / "nowhere"), "tokenizer": str(folder / "tokens")}
    with pytest.raises(RunError, match=rf"{tmp_path}/mine\.yaml:4: no {tmp_path}/gone\.json"):
        train(settings, tmp_path / "run", progress=Progress(io.StringIO()))
