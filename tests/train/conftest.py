"""Toy runs share one cache of compiled programs, so that only the first one compiles."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.train import toy
from vidlmm.parallel import use_compilation_cache
from vidlmm.train.loop import train
from vidlmm.train.progress import Progress


@pytest.fixture(scope="session")
def compile_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VIDLMM_CACHE where it is set, so that tests run again are fast; else a folder for this session."""
    return Path(os.environ.get("VIDLMM_CACHE") or tmp_path_factory.mktemp("compiled"))


@pytest.fixture(autouse=True)
def _cache(compile_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("VIDLMM_CACHE", str(compile_cache))
    use_compilation_cache()
    yield


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    return toy.tokenizer(tmp_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, compile_cache: Path) -> Path:
    """An uninterrupted run, which others are compared with."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDLMM_CACHE", str(compile_cache))
        quiet = Progress(io.StringIO())
        train(toy.config(tokenizer=toy.tokenizer(folder)), folder / "run", toy.ToySource, progress=quiet)
    return folder / "run"
