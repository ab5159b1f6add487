"""Safetensors files: read as the safetensors library writes them, written as it reads them, and what is refused."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vidlmm.checkpoint.tensors import DTYPES, Entry, read_header, write_tensors
from vidlmm.checkpoint.weights import WeightsError

ARRAYS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([1.5, -2], ml_dtypes.bfloat16),
    "empty": np.zeros((0, 4), np.float16),
    "scalar": np.array(7, np.int64),
    "eight": np.array([1, 2], ml_dtypes.float8_e4m3fn),
}


def entries(arrays: dict[str, np.ndarray]) -> list[Entry]:
    return [Entry(name, array.dtype, array.shape, lambda array=array: array) for name, array in arrays.items()]


def with_header(path: Path, header: dict, data: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    save_file(ARRAYS, tmp_path / "w.safetensors", metadata={"format": "pt"})
    header = read_header(tmp_path / "w.safetensors")
    assert header.metadata == {"format": "pt"} and set(header.tensors) == set(ARRAYS)
    for name, array in ARRAYS.items():
        found = header.tensors[name].read()
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tobytes() == array.tobytes()


def test_what_is_written_the_library_reads(tmp_path: Path) -> None:
    arrays = {name: array for name, array in ARRAYS.items() if name != "eight"}  # numpy alone has no such type
    write_tensors(tmp_path / "w.safetensors", entries(arrays), {"format": "pt"})
    found = load_file(tmp_path / "w.safetensors")
    assert all(found[name].tobytes() == array.tobytes() for name, array in arrays.items())
    again = tmp_path / "again.safetensors"
    header = read_header(tmp_path / "w.safetensors")
    write_tensors(again, entries({name: t.read() for name, t in header.tensors.items()}), header.metadata)
    assert again.read_bytes() == (tmp_path / "w.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.safetensors", "w.safetensors"]


def test_every_type_has_a_name() -> None:
    assert len(set(DTYPES.values())) == len(DTYPES)


@pytest.mark.parametrize("content", [b"", b"short", b"not a header of tensors at all", bytes(100)])
def test_a_file_without_a_header_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\.safetensors is not a whole safetensors file"):
        read_header(tmp_path / "w.safetensors")


def test_a_file_cut_short_names_the_tensor(tmp_path: Path) -> None:
    save_file({"x": np.zeros(100, np.float32)}, tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[:-1])
    with pytest.raises(WeightsError, match=f"x ends at byte {len(whole)}, the file has {len(whole) - 1}"):
        read_header(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, r"4 bytes for a F32 tensor of shape \[2\]"),
        ({"dtype": "Q4", "shape": [2], "data_offsets": [0, 1]}, "unknown type 'Q4'"),
        ({"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}, "bytes for a F32 tensor"),
        ({"dtype": "F32", "shape": [1]}, "data_offsets"),
        (7, "header says"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, entry: object, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read_header(with_header(tmp_path / "w.safetensors", {"x": entry}, bytes(64)))


def test_a_tensor_of_another_size_than_announced_leaves_no_file(tmp_path: Path) -> None:
    wrong = Entry("x", np.dtype(np.float32), (3,), lambda: np.zeros(2, np.float32))
    with pytest.raises(ValueError, match=r"x was announced as \[3\] and is \[2\]"):
        write_tensors(tmp_path / "w.safetensors", [wrong], {})
    assert not list(tmp_path.iterdir())
