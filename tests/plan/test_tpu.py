"""The real TPU compiler on a tiny model (make compiles), and what is said where it is not installed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidlmm.cli import main as cli
from vidlmm.plan.report import report
from vidlmm.plan.result import from_json, to_json

TINY = [
    "--config.system=quickstart",
    "--config.spec.decoder.layers=2",
    "--config.mesh.data=1",
    "--config.mesh.fsdp=2",
    "--config.mesh.tensor=2",
]


def test_without_the_compiler_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    assert cli.main(["plan", "--config", "quickstart", "--topology", "v5e:2x2"]) == 1
    assert "pip install 'vidlmm[tpu]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "quickstart", "--topology", "v9:2x2"], "known are v4:{2x2x1,"),
        (["--config", "quickstart"], "give --config and --topology"),
        (["--config", "quickstrt", "--topology", "local"], "did you mean quickstart?"),
        (["--config", "quickstart", "--topology", "local", "--config.mesh.tensor=3"], "multiply to 3"),
        (["--config", "quickstart", "--topology", "local", "--stage", "algin"], "there are align, instruct"),
        (["--config", "quickstart", "--topology", "local", "--search"], "peaks of 1 x cpu"),
    ],
)
def test_what_cannot_be_planned_is_one_line(arguments: list[str], said: str, capsys) -> None:
    assert cli.main(["plan", *arguments]) == 1
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1


def test_a_plan_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("VIDLMM_CACHE", str(tmp_path))
    small = ["decoder.layers=1", "tower.layers=1", "decoder.mlp=64", "tower.mlp=64"]
    batch = ["rows=2", "groups=2", "length=400", "frames=16"]
    command = ["plan", "--config", "quickstart", "--topology", "local", "--stage", "align"]
    command += ["--json", str(tmp_path / "plan.json"), *(f"--config.spec.{one}" for one in small)]
    command += [f"--config.stages.align.batch.{one}" for one in batch]
    assert cli.main(command) == 0
    plan = from_json((tmp_path / "plan.json").read_text())
    shown = capsys.readouterr()
    assert shown.out == report(plan) and "compiled before" not in shown.err
    assert plan.fits and plan.memory.total > sum(plan.memory.held.values()) > 0
    # The tower is held still and nothing before it learns; a CPU's peaks are not known, so no time is told.
    assert plan.model_flops["tower"][1] == 0 < plan.model_flops["connector"][1]
    assert plan.flow is not None and not plan.flow.told and plan.rates is None
    assert 0.5 * plan.flops < plan.flow.flops < 2 * plan.flops
    assert cli.main(command) == 0
    assert (tmp_path / "plan.json").read_text() == to_json(plan)
    assert len(list((tmp_path / "plan").glob("*.json"))) == 1


@pytest.mark.compiles
def test_a_tiny_step_for_four_chips(tmp_path: Path) -> None:
    """In a process of its own: the compiler takes what it finds in the environment when it is loaded."""
    command = [sys.executable, "-m", "vidlmm", "plan", "--config", "quickstart", "--stage", "align"]
    command += ["--topology", "v5e:2x2", "--json", str(tmp_path / "plan.json"), "--generate", *TINY]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "VIDLMM_CACHE": str(tmp_path), "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["memory"]["fits"] and plan["memory"]["buffers"]
    kinds = {(one["kind"], tuple(one["axes"])) for one in plan["flow"]["told"]}
    assert ("all-gather", ("fsdp",)) in kinds
    assert any(kind == "all-reduce" and "tensor" in axes for kind, axes in kinds)
    arithmetic = sum(map(sum, plan["model_flops"].values()))
    # Four devices do all of it and what remat and whole chunks add, and nothing twice that is split over them.
    assert arithmetic < 4 * plan["flow"]["flops"] < 3 * arithmetic
    assert "a plan" in done.stdout and "not a measurement" in done.stdout
    answering = {"encode 8 frames", "read what is shown", "read the text behind it", "write a token in each slot"}
    assert set(plan["generation"]) == {"setting", *answering}
    assert all(plan["generation"][one]["fits"] for one in answering)
