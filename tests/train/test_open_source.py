"""A stage's `source` into batches: mixtures on the config's page, their orders, and what cannot be meant."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data import av_files, epic_files
from tests.data.small import small_spec, write_tokenizer
from tests.data.test_systems import system
from vidlmm.data.errors import DataError
from vidlmm.spec import ModelSpec
from vidlmm.train.errors import RunError
from vidlmm.train.open_source import open_source
from vidlmm.train.sources import Source, SourceContext
from vidlmm.train.stage import Stage

AV_JOINT = {"mixture": av_files.mixture(), "order": "pattern", "pattern": ("av", "av", "audio", "video")}
SETTINGS = {"workers": 0, "threads": 2, "ahead": 2, "bad_share": 0.0, "cache": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return av_files.write_av(tmp_path_factory.mktemp("av"))


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def spec() -> ModelSpec:
    return small_spec()


@pytest.fixture
def context(folder: Path, spec: ModelSpec, tokenizer_dir: Path) -> Any:
    def make(process: tuple[int, int] = (0, 1), rows: int = 4, **source: Any) -> SourceContext:
        base = {"kind": "llava", "path": str(folder), "media_root": "", "turns": "conversation", "packed": False,
                "overlong": "error", **source}  # fmt: skip
        stage = Stage("joint", "sft", ("decoder",), 1e-3, rows=rows, length=1800, frames=6 * rows, groups=rows // 2,
                      source=tuple(sorted(base.items())))  # fmt: skip
        return SourceContext(stage, system(spec, "stc"), tokenizer_dir, 7, SETTINGS, process=process)

    return make


def take(source: Source, count: int) -> list[tuple[dict[str, np.ndarray], tuple[str, ...]]]:
    found = [next(source) for _ in range(count)]
    return [(item.arrays, item.ids) for item in found]


def test_the_joint_stage_is_the_same_for_any_processes_from_its_middle(context: Any) -> None:
    whole = open_source(context(**AV_JOINT))
    first = take(whole, 2)
    saved = whole.state()
    rest = take(whole, 3)
    assert whole.batches_an_epoch() == av_files.AV / 2
    whole.close()
    for _, ids in first + rest:
        assert [name.rstrip("0123456789") for name in ids] == ["av", "av", "a", "v"]
    parts = []
    for process in ((0, 2), (1, 2)):
        part = open_source(context(process, **AV_JOINT))
        part.restore(saved)
        parts.append(take(part, 3))
        part.close()
    for (arrays, ids), (one, ids_one), (other, ids_other) in zip(rest, *parts, strict=True):
        assert ids == ids_one + ids_other
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, np.concatenate([one[name], other[name]]), err_msg=name)


def deaf(made: SourceContext) -> SourceContext:
    """The same for a system that hears nothing: sounds take long to read."""
    return replace(made, spec=replace(made.spec, audio=None, prompt=replace(made.spec.prompt, template="qwen_1_5")))


def test_orders_of_a_config(context: Any, folder: Path) -> None:
    def ids(count: int = 2, **source: Any) -> list[tuple[str, ...]]:
        opened = open_source(deaf(context(**{"path": str(folder / "av.json"), **source})))
        found = [ids for _, ids in take(opened, count)]
        opened.close()
        return found

    assert ids(order="listed") == [("av0", "av1", "av2", "av3"), ("av4", "av0", "av1", "av2")]
    assert ids() == ids(order="shuffled", mixture=(), pattern=()) != ids(order="listed")
    grouped = ids(order="grouped")
    assert len(grouped[0]) == 4 and len(grouped[1]) == 1, "an epoch begins with a new batch"
    parts = tuple({"json_path": f"{name}.json", "part": name} for name in ("av", "video"))
    pattern = {"path": str(folder), "mixture": parts, "pattern": ("av", "av", "video", "video")}
    for order, same in (("mix_sampler", True), ("pattern", False)):
        seen = ids(4, order=order, **pattern)
        assert all([name.rstrip("0123456789") for name in one] == ["av", "av", "v", "v"] for one in seen)
        assert (seen[:2] == seen[2:]) is same


def test_a_stage_of_every_task_in_a_kitchen(context: Any, tmp_path: Path) -> None:
    epic_files.write_epic(tmp_path)
    tasks = (
        {"json_path": "mqa.jsonl", "prior_actions": "EPIC_100_train.csv"},
        {"json_path": "EPIC_100_train.csv", "task": "temporal_detection"},
        {"json_path": "EPIC_100_train.csv", "task": "direct_narration"},
    )
    source = open_source(deaf(context(rows=24, path=str(tmp_path), mixture=tasks)))
    ((arrays, ids),) = take(source, 1)
    source.close()
    assert len(ids) == 24 == len({*ids}) + 14, "released rows are named by their film"
    assert (arrays["weight"].sum(axis=1) > 0).all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"shuffle": True}, RunError, r"stage 'joint': unknown key\(s\) \['shuffle'\] of source; known are kind, path"),
        ({"order": "sorted"}, RunError, "stage 'joint': source.order is 'sorted'; known are shuffled, listed, grouped"),
        ({"order": "pattern"}, DataError, "stage 'joint': order 'pattern' with the pattern"),
        ({**AV_JOINT, "pattern": ("av", "text")}, DataError, "source.mixture.1: is of part 'audio', the pattern names"),
        ({**AV_JOINT, "pattern": ("av", "audio", "video")}, DataError, "3 places does not divide a batch of 4 rows"),
        ({**AV_JOINT, "packed": True}, DataError, "rows cannot be packed"),
        ({"mixture": ({"json_path": "none.json"},)}, DataError, "stage 'joint': .*none.json: no such annotation file"),
    ],
)
def test_sources_that_cannot_be_meant(
    changes: dict[str, Any], error: type[Exception], message: str, context: Any
) -> None:
    with pytest.raises(error, match=message):
        open_source(context(**changes))
