"""A plan as text, as JSON and as a line of the page."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from vidlmm.plan.cache import VERSION, Cache, default_folder, digest
from vidlmm.plan.report import WIDTH, report, size, span
from vidlmm.plan.result import LABEL, Plan, from_dict, from_json, to_json
from vidlmm.plan.scale import EVERY, SEVEN, Row, every_recipe, scale_rows
from vidlmm.plan.table import page_text, plan_table

GOLDEN = Path(__file__).parent / "golden"


def test_the_report_is_the_stored_one(plan: Plan) -> None:
    assert report(plan) == (GOLDEN / "report.txt").read_text()


def test_no_line_is_wider_than_a_terminal(plan: Plan) -> None:
    long = replace(plan, notes=("a long note " * 40,))
    assert max(map(len, report(long).splitlines())) <= WIDTH + 20


def test_what_does_not_fit_says_so_and_tells_no_time(plan: Plan) -> None:
    memory = replace(plan.memory, fits=False, limit=15.75 * 2**30, total=17.3 * 2**30)
    text = report(replace(plan, memory=memory, flow=None, rates=None))
    assert "DOES NOT FIT" in text and "18.6 GB of 16.9 GB" in text
    assert "at the least" not in text and "MFU" not in text


def test_a_plan_is_labelled_and_comes_back_from_json(plan: Plan) -> None:
    assert "not a measurement" in LABEL and LABEL in report(plan)
    assert json.loads(to_json(plan))["label"] == LABEL
    assert from_json(to_json(plan)) == plan
    missing = replace(plan, flow=None, rates=None)
    assert from_json(to_json(missing)) == missing


def test_numbers_in_words() -> None:
    told = ["12 B", "1.2 kB", "999.0 MB", "25.0 GB", "3.00 TB"]
    assert [size(n) for n in (12.0, 1.25e3, 9.99e8, 2.5e10, 3e12)] == told
    assert [span(s) for s in (1.5, 0.02, 3e-5)] == ["1.50 s", "20.0 ms", "30 µs"]


def test_the_cache_tells_programs_compilers_and_assumptions_apart(tmp_path: Path, plan: Plan) -> None:
    cache = Cache(tmp_path / "plan")
    versions = {"jax": "1"}
    key = cache.key("program", "v5p:4x4x4", versions, "two videos")
    assert cache.find(key) is None
    cache.keep(key, plan)
    found = cache.find(key)
    assert found is not None and from_dict(found) == plan
    others = [
        cache.key("program2", "v5p:4x4x4", versions, "two videos"),
        cache.key("program", "v5p:2x4x4", versions, "two videos"),
        cache.key("program", "v5p:4x4x4", {"jax": "2"}, "two videos"),
        cache.key("program", "v5p:4x4x4", versions, "one video"),
    ]
    assert len({key, *others}) == 5
    # Where a line of the program came from does not count.
    assert digest('x loc("a.py":1)') == digest('x loc("b.py":2)') != digest("y")
    (tmp_path / "plan" / f"{key}.json").write_text("{torn")
    assert cache.find(key) is None
    nothing = Cache(None)
    nothing.keep(key, plan)
    assert nothing.find(key) is None
    assert VERSION >= 1


def test_where_plans_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDLMM_CACHE", "/somewhere")
    assert default_folder() == Path("/somewhere/plan")
    monkeypatch.setenv("VIDLMM_CACHE", "off")
    assert default_folder() is None


def test_a_page_holds_what_is_stored(plan: Plan) -> None:
    rows = [Row(SEVEN, "llava_video_7b", "v5p:4x4x4"), Row(SEVEN, "llava_video_7b", "v5p:8x8x8")]
    rows.append(Row(EVERY, "llava_video_7b", "v5e:8x8", (), "video"))
    small = replace(plan, memory=replace(plan.memory, fits=False), flow=None, rates=None, topology="v5e:8x8")
    text = page_text(rows, {rows[0].key: asdict(plan), rows[2].key: asdict(small)})
    assert "Planned, not measured" in text
    assert (
        "| v5p:4x4x4 | 64 | fsdp=16 context=2 tensor=2 | layer | 64 x 26,112 | 12.5 GB of 96.0 GB | yes | 650.0 ms | "
        "compute | 71% | 196.9 | 2.3 | 144 |"
    ) in text
    assert "| llava_video_7b, video | v5e:8x8 |" in text and "**no**" in text
    assert "v5p:8x8x8" not in text.split("## What")[0].split("--search")[1]


def test_the_committed_page_is_written_from_the_committed_plans(tmp_path: Path) -> None:
    docs = Path(__file__).parents[2] / "docs"
    copy = tmp_path / "scale.json"
    copy.write_text((docs / "scale.json").read_text())
    plan_table(tmp_path / "scale.md", print, compile_missing=False)
    assert (tmp_path / "scale.md").read_text() == (docs / "scale.md").read_text()
    assert copy.read_text() == (docs / "scale.json").read_text()


def test_every_line_of_the_committed_page_is_planned_and_fits() -> None:
    stored = json.loads((Path(__file__).parents[2] / "docs" / "scale.json").read_text())
    keys = [row.key for row in (*scale_rows(), *every_recipe())]
    assert list(stored) == keys
    assert all(plan["memory"]["fits"] for plan in stored.values())
