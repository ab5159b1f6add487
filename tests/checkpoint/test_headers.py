"""What a checkpoint says of itself, from a folder and from the hub, without its weights."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from vidlmm.checkpoint.headers import read_headers
from vidlmm.checkpoint.weights import WeightsError


class Absent(Exception):
    pass


def hub(folder: Path, cached: Path | None = None, fault: Exception | None = None) -> Any:
    """A hub library that has the config.json of `folder`, and headers of two files; it gives no weights."""

    def snapshot_download(name: str, *, revision: str | None, local_files_only: bool) -> str:
        assert local_files_only, "weights are asked for"
        if cached is None:
            raise Absent
        return str(cached)

    def get_safetensors_metadata(name: str, *, revision: str | None) -> Any:
        if fault is not None:
            raise fault
        one = SimpleNamespace(tensors={"a": SimpleNamespace(dtype="BF16", shape=[2, 3])})
        two = SimpleNamespace(tensors={"b": SimpleNamespace(dtype="F32", shape=[])})
        return SimpleNamespace(files_metadata={"1.safetensors": one, "2.safetensors": two})

    return SimpleNamespace(
        errors=SimpleNamespace(LocalEntryNotFoundError=Absent),
        snapshot_download=snapshot_download,
        hf_hub_download=lambda name, file, revision: str(folder / file),
        get_safetensors_metadata=get_safetensors_metadata,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    return tmp_path


def test_a_folders_headers(folder):
    save_file({"a": np.zeros((2, 3), np.float16)}, folder / "model.safetensors")
    found = read_headers(str(folder))
    assert (found.config, dict(found.tensors)) == ({"model_type": "llava"}, {"a": ("F16", (2, 3))})
    assert found.where == f"1 file(s) in {folder}"


def test_of_a_hub_id_no_weights_are_fetched(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub(folder))
    found = read_headers("someone/model", "v1")
    assert dict(found.tensors) == {"a": ("BF16", (2, 3)), "b": ("F32", ())}
    assert found.config == {"model_type": "llava"} and found.where == "2 file(s) at the hub, none fetched"


def test_a_snapshot_that_is_here_is_read_and_half_of_one_is_not(folder, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub(folder, cached=tmp_path / "here"))
    assert set(read_headers("someone/model").tensors) == {"a", "b"}
    save_file({"c": np.zeros(1, np.float32)}, tmp_path / "here" / "model.safetensors")
    assert set(read_headers("someone/model").tensors) == {"c"}


def test_what_the_hub_says_is_one_line(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub(folder, fault=OSError("401 no access\nlog in")))
    with pytest.raises(WeightsError, match=r"no headers of someone/model \(revision v1\): 401 no access$"):
        read_headers("someone/model", "v1")


def test_without_the_hub_library_the_way_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match="install huggingface_hub"):
        read_headers("someone/model")
