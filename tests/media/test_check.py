"""Many files at once: a result for each, in order, whatever happens to the process that opened it."""

import json
import os
import signal
import stat
import sys

import numpy as np
import pytest
from PIL import Image

from tests.media.clips import make
from vidlmm.media import check
from vidlmm.media.check import check_paths, media_files, write_report
from vidlmm.media.limits import Limits


@pytest.fixture
def folder(tmp_path):
    make(tmp_path / "b.mp4", 5)
    (tmp_path / "deep").mkdir()
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / "deep" / "c.png")
    (tmp_path / "deep" / "d.mov").write_text("no video")
    (tmp_path / "notes.txt").write_text("not looked at")
    return tmp_path


def test_folders_are_walked_by_suffix_and_files_taken_as_they_are(folder):
    names = [os.path.relpath(p, folder) for p in media_files([folder, folder / "notes.txt"])]
    assert names == ["b.mp4", "deep/c.png", "deep/d.mov", "notes.txt"]


def test_every_file_gets_a_line(folder):
    seen = []
    results = check_paths([folder, folder / "none.mkv"], workers=2, progress=seen.append)
    assert [(os.path.basename(r.path), r.kind) for r in results] == [
        ("b.mp4", None),
        ("c.png", None),
        ("d.mov", "not_media"),
        ("none.mkv", "missing"),
    ]
    assert [r.ok for r in results] == [True, True, False, False]
    assert sorted(r.path for r in seen) == sorted(r.path for r in results)
    assert "5 frames" in results[0].detail
    assert str(results[3]) == f"{folder / 'none.mkv'}: missing: there is no such file"


def test_nothing_to_check(tmp_path):
    assert check_paths([tmp_path]) == []
    with pytest.raises(ValueError, match="workers is 0"):
        check_paths([tmp_path], workers=0)


def test_all_frames_or_some(tmp_path):
    path = make(tmp_path / "damaged.mkv", options={"g": "10", "bf": "0", "sc_threshold": "0"})
    data = path.read_bytes()
    where = len(data) * 6 // 10
    path.write_bytes(data[:where] + bytes(64) + data[where + 64 :])
    assert check_paths([path], frames=1)[0].ok
    assert check_paths([path], frames=None)[0].kind == "short"


def test_the_report(folder, tmp_path):
    results = check_paths([folder])
    write_report(results, tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["files"], report["bad"]) == (3, 1)
    assert report["by_kind"] == {"not_media": 1, "ok": 2}
    assert report["results"][2]["path"].endswith("d.mov")
    assert report["results"][2]["ok"] is False


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Puts a program in the place of the worker."""

    def install(body: str) -> None:
        script = tmp_path / "python"
        script.write_text(f"#!{sys.executable}\n{body}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(check.sys, "executable", str(script))

    return install


def test_a_decoder_that_dies_costs_one_line(folder, python):
    python(
        "import json, os, sys\n"
        "for line in sys.stdin:\n"
        "    if 'b.mp4' in line: os.kill(os.getpid(), 11)\n"
        "    print(json.dumps({'kind': None, 'detail': 'fine'}), flush=True)"
    )
    results = check_paths([folder], workers=1)
    assert [r.kind for r in results] == ["not_media", None, None]
    assert results[0].detail == f"the decoder died on it (exit code {-signal.SIGSEGV})"


def test_a_decoder_that_hangs_is_killed(folder, python, monkeypatch):
    python("import time; time.sleep(600)")
    monkeypatch.setattr(check, "_GRACE", 0.1)
    results = check_paths([folder / "b.mp4"], workers=1, limits=Limits(seconds=0.1))
    assert results[0].kind == "timed_out"
    assert results[0].seconds < 60


def test_real_folder(shared):
    results = check_paths([shared / "media"], workers=2)
    assert [os.path.basename(r.path) for r in results if not r.ok] == ["decord_corrupted.mp4"]
    assert next(r for r in results if not r.ok).kind == "short"
