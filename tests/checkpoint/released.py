"""Reference cases as folders of a released checkpoint: config.json and safetensors files from the seed rule."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.goldens import seeded
from tests.models.released import case_inputs, load_case

__all__ = ["case_inputs", "case_tensors", "load_case", "stored_part", "write_folder", "write_tensors"]


def case_tensors(case: dict[str, Any], dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """Every tensor of the case's checkpoint."""
    seed, overrides = case["seed"], case.get("overrides") or {}
    tensors = {}
    for name, shape in case["tensors"].items():
        known = {"np": np, "seed": seed, "shape": tuple(shape), "u": seeded.seeded_uniform(seed, name, tuple(shape))}
        known |= {"seeded_uniform": seeded.seeded_uniform, "seeded_tensor": seeded.seeded_tensor}
        value = eval(overrides[name], {"__builtins__": {}, **known}) if name in overrides else None
        tensors[name] = (seeded.seeded_tensor(seed, name, tuple(shape)) if value is None else value).astype(dtype)
    return tensors


def write_folder(folder: Path, case: dict[str, Any], *, files: int = 1, dtype: Any = np.float32, **config: Any) -> Path:
    """The case's checkpoint in `files` safetensors files; fields of config.json can be changed."""
    return write_tensors(folder, case_tensors(case, dtype), case["config"] | config, files)


def write_tensors(folder: Path, tensors: dict[str, np.ndarray], config: dict[str, Any], files: int = 1) -> Path:
    """A released folder of these tensors and this config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    names = sorted(tensors)
    cut = [names[number::files] for number in range(files)]
    weight_map = {}
    for number, part in enumerate(cut, start=1):
        name = "model.safetensors" if files == 1 else f"model-{number:05d}-of-{files:05d}.safetensors"
        save_file({key: tensors[key] for key in part}, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    if files > 1:
        total = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    return folder


def stored_part(full: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    """The part of an output that the case keeps."""
    cut = about["slice"]
    return eval(f"full{cut}", {"full": full}) if cut else full
