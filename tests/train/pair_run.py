"""A run on pairs that takes a second: clips of one colour each, and two answers about it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.train import toy
from vidlmm.losses import Preference
from vidlmm.train.setup import find_file

TOKENIZER = str(find_file("quickstart/base"))
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (240, 240, 240)}
SPEC = toy.SPEC | {"decoder": toy.SPEC["decoder"] | {"vocab": 704, "max_length": 128}}
ROWS, LENGTH = 4, 96


def write_pairs(folder: Path, count: int = 12) -> Path:
    """Folders of frames and a file of pairs, of which one way to say a colour is preferred. Both begin alike."""
    names = list(COLOURS)
    rows = []
    for number in range(count):
        name = names[number % 4]
        clip = folder / f"clip{number}"
        clip.mkdir(parents=True, exist_ok=True)
        shade = np.clip(np.array(COLOURS[name]) + number, 0, 255).astype(np.uint8)
        Image.fromarray(np.broadcast_to(shade, (8, 8, 3)).copy()).save(clip / "c01_0001.png")
        right, wrong = f"the square is {name}", f"the square looks like {name}"
        rows.append(
            {"id": f"p{number}", "video": clip.name, "prompt": "<video>\nwhat colour is it ?", "answer": right,
             "chosen": right, "rejected": wrong, "chosen_score": 5, "rejected_score": 1}
        )  # fmt: skip
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def preference(**changes: Any) -> dict[str, Any]:
    plain = {name: getattr(Preference(), name) for name in Preference.__dataclass_fields__}
    return plain | {"eval_every": 3} | changes


def config(path: Path, steps: int = 6, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A stage on pairs from fresh weights; further keys are the stage's."""
    source = {
        "kind": "pairs",
        "path": str(path),
        "media_root": "",
        "held_out": 0.2,
        "held_out_path": "",
        "pairs_a_tree": 1,
        "reference": "",
    }
    stage = toy.stage(
        "dpo", objective="preference", trainable=("decoder",), lr=3e-3, steps=steps, source=source,
        batch={"rows": ROWS, "length": LENGTH, "frames": ROWS, "groups": ROWS}, preference=preference(),
    )  # fmt: skip
    made = toy.config(stage | changes, spec=SPEC, tokenizer=TOKENIZER, seed=seed)
    return made | {"log": made["log"] | {"tensorboard": False}}
