"""Names and shapes of released checkpoints at real size."""

import json
from pathlib import Path
from typing import Any

Shapes = dict[str, tuple[int, ...]]
GOLDENS = Path(__file__).parents[1] / "goldens"


def valley_shapes(model: str) -> Shapes:
    """Every tensor of a model of keys_valley.json."""
    listed = json.loads((GOLDENS / "keys_valley.json").read_text())["models"][model]
    shapes: Shapes = {}
    for name, entry in listed["tensors"].items():
        if isinstance(entry, list):
            shapes[name] = tuple(entry)
        else:
            shapes |= {name.replace("{i}", str(i)): tuple(entry["shape"]) for i in range(entry["count"])}
    assert len(shapes) == listed["tensor_count"]
    return shapes


def hound_shapes(model: str) -> Shapes:
    """Every tensor of a model of keys_hound.json."""
    listed: dict[str, Any] = json.loads((GOLDENS / "keys_hound.json").read_text())[model]
    shapes: Shapes = {}
    for entry in listed["tensors"]:
        names = [entry["pattern"].replace("{i}", str(i)) for i in range(entry["count"])] if "pattern" in entry else []
        shapes |= dict.fromkeys(names or [entry["key"]], tuple(entry["shape"]))
    assert len(shapes) == listed["tensor_count"]
    return shapes
