"""Reading a reference case: what was stored of an output, and how far a result may lie from it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.goldens.seeded import seeded_uniform


class Case:
    """A folder with case.json (what was run) and case.npz (what came out)."""

    def __init__(self, folder: Path) -> None:
        self.text: dict[str, Any] = json.loads((folder / "case.json").read_text())
        self.arrays = dict(np.load(folder / "case.npz"))
        self.tolerance: float = self.text["tolerance"]

    def difference(self, name: str, full: np.ndarray) -> float:
        """Largest difference between the stored part of output `name` and the same part of `full`."""
        entry = self.text["outputs"][name]
        assert list(full.shape) == entry["shape"], name
        stored = self.arrays[name]
        part = full if entry["slice"] == "all" else full[parse_slice(entry["slice"])]
        assert part.shape == stored.shape, name
        return float(np.abs(part.astype(np.float64) - stored).max())

    def assert_close(self, name: str, full: np.ndarray, tolerance: float | None = None) -> None:
        """The stored part within the case's tolerance, and the means over everything as well."""
        limit = self.tolerance if tolerance is None else tolerance
        assert self.difference(name, full) <= limit, name
        if f"{name}_mean" in self.arrays:
            exact = full.astype(np.float64)
            assert abs(exact.mean() - self.arrays[f"{name}_mean"]) <= limit, name
            assert abs(np.abs(exact).mean() - self.arrays[f"{name}_absmean"]) <= limit, name


def parse_slice(text: str) -> tuple[Any, ...]:
    """'[[0, -1], :, ::25]' as an index."""
    inner = text.strip()[1:-1].replace("[0, -1]", "ends")
    return tuple(_parse_part(part.strip()) for part in inner.split(","))


def _parse_part(part: str) -> Any:
    if part == "...":
        return ...
    if part == "ends":
        return [0, -1]
    if ":" not in part:
        return int(part)
    return slice(*(int(number) if number else None for number in part.split(":")))


def blocks(seed: int, name: str, height: int, width: int, side: int = 6) -> np.ndarray:
    """A uint8 picture of coloured blocks: the inputs of case 13_preprocess."""
    cells = -(-height // side), -(-width // side)
    values = np.floor((seeded_uniform(seed, name, (*cells, 3)) + 1.0) * 128.0).astype(np.uint8)
    return values.repeat(side, 0).repeat(side, 1)[:height, :width]


def grainy(seed: int, name: str, frames: int, height: int, width: int) -> np.ndarray:
    """Frames of coarse blocks with fine grain: the inputs of VideoLLaMA 2's and Valley's cases."""
    coarse = seeded_uniform(seed, f"{name}_coarse", (frames, -(-height // 8), -(-width // 8), 3))
    fine = seeded_uniform(seed, f"{name}_fine", (frames, height, width, 3))
    large = 90.0 * coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width]
    return np.floor(127.5 + large + 30.0 * fine).astype(np.uint8)


def noisy(seed: int, name: str, frames: int, height: int, width: int) -> np.ndarray:
    """Frames of coarse blocks whose lowest bits are flipped: the inputs of Hound's case."""
    cells = (frames, -(-height // 8), -(-width // 8), 3)
    coarse = np.floor(128 * (seeded_uniform(seed, f"{name}/blocks", cells) + 1)).astype(np.uint8)
    noise = np.floor(8 * (seeded_uniform(seed, f"{name}/noise", (frames, height, width, 3)) + 1)).astype(np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width] ^ noise
