"""Reference cases: what they hold and what goes in."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.goldens import seeded


def load_case(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """case.json and the stored numbers."""
    case = json.loads((folder / "case.json").read_text())
    with np.load(folder / "case.npz") as stored:
        return case, dict(stored)


def case_inputs(case: dict[str, Any]) -> dict[str, np.ndarray]:
    """The case's inputs: the expressions are the repository's own files."""
    known: dict[str, Any] = {"np": np, "seeded_uniform": seeded.seeded_uniform, "seeded_tensor": seeded.seeded_tensor}
    known["seed"] = case["seed"]
    for name, value in case["inputs"].items():
        known[name] = eval(value, {"__builtins__": {}}, known) if isinstance(value, str) else np.array(value)
    return {name: known[name] for name in case["inputs"]}
