"""Decoded clips on disk: the same frames again, within the bound, and never a wrong entry."""

import ast
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.conftest import write_clip
from vidlmm.data import sample
from vidlmm.data.cache import FrameCache
from vidlmm.data.errors import DataError
from vidlmm.data.records import MediaRef
from vidlmm.data.sample import Loader


@pytest.fixture
def clip_path(clips, tmp_path):
    return str(shutil.copy(clips / "clip0.mp4", tmp_path / "own.mp4"))


@pytest.fixture
def opened(monkeypatch):
    """The paths that were decoded."""
    paths = []
    load = sample.load_video

    def counting(path, *args, **kwargs):
        paths.append(path)
        return load(path, *args, **kwargs)

    monkeypatch.setattr(sample, "load_video", counting)
    return paths


def entries(cache: FrameCache) -> list[Path]:
    return sorted(Path(cache.folder).glob("*/*"))


def test_the_second_epoch_does_not_decode(spec, clip_path, tmp_path, opened):
    loader = Loader(spec, cache=FrameCache(str(tmp_path / "cache")))
    first, second = (loader.open(MediaRef("video", clip_path)) for _ in range(2))
    assert opened == [clip_path]
    np.testing.assert_array_equal(first.frames, second.frames)
    assert first.choice == second.choice
    assert second.frames.dtype == np.uint8


def test_an_entry_is_read_without_pythons_parser(spec, clip_path, tmp_path, opened, monkeypatch):
    """Threads that parse at the same time break in CPython 3.11: "AST constructor recursion depth mismatch"."""

    def parse(*_, **__):
        raise SystemError("AST constructor recursion depth mismatch")

    loader = Loader(spec, cache=FrameCache(str(tmp_path / "cache")))
    first = loader.open(MediaRef("video", clip_path))
    with monkeypatch.context() as patched:
        patched.setattr(ast, "parse", parse)
        second = loader.open(MediaRef("video", clip_path))
    assert opened == [clip_path]
    np.testing.assert_array_equal(first.frames, second.frames)


def test_another_spec_or_file_is_another_entry(spec, clip_path, tmp_path, opened):
    cache = FrameCache(str(tmp_path / "cache"))
    fewer = replace(spec, frames=replace(spec.frames, count=2))
    larger = replace(spec, pixels=replace(spec.pixels, size=24))
    shapes = [Loader(s, cache=cache).open(MediaRef("video", clip_path)).frames.shape for s in (spec, fewer, larger)]
    assert shapes == [(4, 16, 16, 3), (2, 16, 16, 3), (4, 24, 24, 3)]
    before = Loader(spec, cache=cache).open(MediaRef("video", clip_path)).frames
    write_clip(Path(clip_path), frames=30, seed=77)
    after = Loader(spec, cache=cache).open(MediaRef("video", clip_path)).frames
    assert len(opened) == 4
    assert (before != after).any()


def test_a_touched_file_is_decoded_again(spec, clip_path, tmp_path, opened):
    loader = Loader(spec, cache=FrameCache(str(tmp_path / "cache")))
    loader.open(MediaRef("video", clip_path))
    os.utime(clip_path, ns=(1, 1))
    loader.open(MediaRef("video", clip_path))
    assert len(opened) == 2


def test_a_damaged_entry_is_replaced(spec, clip_path, tmp_path, opened):
    cache = FrameCache(str(tmp_path / "cache"))
    loader = Loader(spec, cache=cache)
    good = loader.open(MediaRef("video", clip_path))
    (entry,) = entries(cache)
    for damage in (b"", b"no archive", entry.read_bytes()[: entry.stat().st_size // 2]):
        entry.write_bytes(damage)
        np.testing.assert_array_equal(loader.open(MediaRef("video", clip_path)).frames, good.frames)
    assert len(opened) == 4
    loader.open(MediaRef("video", clip_path))
    assert len(opened) == 4, "the entry is whole again"


def test_the_bound_holds(spec, clips, tmp_path):
    # Room for one clip of 4 x 16 x 16 x 3 bytes and its header in each of the 16 folders.
    cache = FrameCache(str(tmp_path / "cache"), max_bytes=16 * 8000)
    kept = 0
    for count in range(1, 5):
        for number in range(6):
            changed = replace(spec, frames=replace(spec.frames, count=count))
            loader = Loader(changed, cache=cache)
            clip = loader.open(MediaRef("video", str(clips / f"clip{number}.mp4")))
            kept += cache.get(str(clips / f"clip{number}.mp4"), changed.frames, changed.pixels) is not None
            assert len(clip.frames) == count
    sizes = [entry.stat().st_size for entry in entries(cache)]
    assert 0 < kept == len(sizes) < 24
    assert sum(sizes) <= cache.max_bytes


def test_a_full_disk_is_told_and_the_run_goes_on(spec, clip_path, tmp_path, monkeypatch, caplog):
    cache = FrameCache(str(tmp_path / "cache"))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    clip = Loader(spec, cache=cache).open(MediaRef("video", clip_path))
    assert len(clip.frames) == 4
    assert "No space left on device" in caplog.text
    assert entries(cache) == [], "nothing half-written is left"


def test_impossible_settings(tmp_path):
    with pytest.raises(DataError, match="must be positive"):
        FrameCache(str(tmp_path), max_bytes=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be made"):
        FrameCache(str(tmp_path / "file" / "cache"))
