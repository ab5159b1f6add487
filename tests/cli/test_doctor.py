"""`vidlmm doctor` says what is missing and fails only over what is needed."""

import importlib.metadata

import pytest

from vidlmm.cli import doctor
from vidlmm.cli.doctor import Finding
from vidlmm.cli.main import main


def run_with(monkeypatch, *findings: Finding) -> int:
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))
    return main(["doctor"])


def test_this_machine_has_what_is_needed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VIDLMM_CACHE", str(tmp_path))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for name in ("python", "jax", "av", "devices", "reads h264", "writes libx264", "compile cache"):
        assert f"ok       {name}" in out


def test_something_needed_that_is_missing_exits_1(monkeypatch, capsys):
    assert run_with(monkeypatch, Finding("ok", "python", "3"), Finding("missing", "reads h264", "no")) == 1
    assert capsys.readouterr().err == "vidlmm doctor: missing: reads h264\n"


def test_something_optional_that_is_missing_exits_0(monkeypatch):
    assert run_with(monkeypatch, Finding("without", "reads av1", "no")) == 0


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    wanted = ["no-such-package>=1", "numpy", 'ruff; extra == "dev"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    found = list(doctor.packages())
    assert [(f.state, f.name) for f in found] == [("missing", "no-such-package"), ("ok", "numpy")]


def test_a_checkout_that_is_not_installed_is_told(monkeypatch):
    def absent(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", absent)
    assert [(f.state, f.name) for f in doctor.packages()] == [("missing", "vidlmm")]


def test_a_codec_that_is_not_built_in_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "DECODERS", {"h264": "no_such_codec", "av1": "no_such_codec"})
    found = {f.name: f.state for f in doctor.codecs()}
    assert found["reads h264"] == "missing" and found["reads av1"] == "without"


@pytest.mark.parametrize(("gib", "state"), [(8.0, "ok"), (2.0, "without"), (None, "without")])
def test_memory_is_told(gib, state):
    assert doctor.memory(gib).state == state


def test_a_cache_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VIDLMM_CACHE", str(tmp_path / "file"))
    assert doctor.compile_cache().state == "without"


def test_a_cache_that_is_turned_off_is_told(monkeypatch):
    monkeypatch.setenv("VIDLMM_CACHE", "off")
    found = doctor.compile_cache()
    assert found.state == "without" and "turned off" in found.detail
