"""Safetensors files: what they hold by their headers, single tensors by memory map, and writing them as a stream.

A tensor is mapped alone and the map is given back with the last view of it, so that a file of any size costs no more
memory than the tensors that are looked at.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from vidlmm.checkpoint.weights import WeightsError

# What safetensors calls the types of numbers.
DTYPES: dict[str, np.dtype] = {
    name: np.dtype(kind)
    for name, kind in {
        "F64": np.float64,
        "F32": np.float32,
        "F16": np.float16,
        "BF16": ml_dtypes.bfloat16,
        "F8_E4M3": ml_dtypes.float8_e4m3fn,
        "F8_E5M2": ml_dtypes.float8_e5m2,
        "I64": np.int64,
        "I32": np.int32,
        "I16": np.int16,
        "I8": np.int8,
        "U64": np.uint64,
        "U32": np.uint32,
        "U16": np.uint16,
        "U8": np.uint8,
        "BOOL": np.bool_,
    }.items()
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
# A header is text about tensors; the safetensors library itself reads no longer ones.
LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies. offset: of its first byte in the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * DTYPES[self.dtype].itemsize

    def read(self) -> np.ndarray:
        """The tensor, mapped and not yet read."""
        if not self.nbytes:
            return np.zeros(self.shape, DTYPES[self.dtype])
        raw = np.memmap(self.file, np.uint8, "r", self.offset, (self.nbytes,))
        # A plain array on the map: views of it cost less than views of a memmap.
        return np.asarray(raw).view(DTYPES[self.dtype]).reshape(self.shape)


@dataclass(frozen=True)
class Header:
    """tensors: by name, in the order of their bytes. metadata: the file's own notes."""

    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_header(path: Path) -> Header:
    """What a file holds; nothing but its header is read.

    Raises:
        WeightsError: missing, cut short, or not a safetensors file.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is not there; a safetensors file was expected")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, LONGEST_HEADER):
            raise WeightsError(f"{path} is not a whole safetensors file: its {size} bytes do not begin with a header")
        try:
            entries = json.loads(file.read(length))
            metadata = entries.pop("__metadata__", {})
            tensors = {name: _stored(path, 8 + length, entry) for name, entry in entries.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"{path} is not a whole safetensors file: its header says {error}") from error
    for name, tensor in tensors.items():
        if tensor.offset + tensor.nbytes > size:
            raise WeightsError(
                f"{path} is not a whole safetensors file: {name} ends at byte {tensor.offset + tensor.nbytes}, the "
                f"file has {size}; copy or download it again"
            )
    return Header(dict(sorted(tensors.items(), key=lambda item: item[1].offset)), metadata)


def _stored(path: Path, start: int, entry: Mapping[str, Any]) -> Stored:
    shape, (begin, end) = tuple(int(size) for size in entry["shape"]), entry["data_offsets"]
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"the unknown type {entry['dtype']!r}; known are {', '.join(DTYPES)}")
    found = Stored(path, entry["dtype"], shape, start + int(begin))
    if min(shape, default=0) < 0 or begin < 0 or end - begin != found.nbytes:
        raise ValueError(f"{end - begin} bytes for a {entry['dtype']} tensor of shape {list(shape)}")
    return found


@dataclass(frozen=True)
class Entry:
    """A tensor to be written; `make` gives it when its turn comes."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    make: Callable[[], np.ndarray]


def write_tensors(path: Path, entries: Sequence[Entry], metadata: Mapping[str, str]) -> None:
    """Write tensors in the order given, one in memory at a time; the file appears whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for entry in entries:
        begin, end = end, end + prod(entry.shape) * entry.dtype.itemsize
        header[entry.name] = {"dtype": NAMES[entry.dtype], "shape": list(entry.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for chunk in _bytes(entries):
                file.write(chunk)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _bytes(entries: Sequence[Entry]) -> Iterable[memoryview]:
    for entry in entries:
        array = np.ascontiguousarray(entry.make(), dtype=entry.dtype)
        if array.size != prod(entry.shape):
            raise ValueError(f"{entry.name} was announced as {list(entry.shape)} and is {list(array.shape)}")
        yield array.reshape(-1).view(np.uint8).data
