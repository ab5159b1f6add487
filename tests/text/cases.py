"""What several files of this folder need: golden cases as turns, tokenizers beside them."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from vidlmm.text import Turn

GOLDENS = Path(__file__).parents[1] / "goldens"
QWEN = GOLDENS / "llava_video" / "12_tokenization"
SFT = GOLDENS / "videollama2" / "sft_labels"
VALLEY = GOLDENS / "valley" / "valley_sft_labels"
HOUND = GOLDENS / "hound" / "label_masks"

ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistent": "assistant", "system": "system"}


@cache
def case(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "case.json").read_text(encoding="utf-8"))


def turns(conversation: list[dict[str, str]]) -> list[Turn]:
    """LLaVA's `from`/`value` records, or `role`/`content` ones."""
    return [
        Turn(ROLES[one.get("from") or one["role"]], one["value"] if "value" in one else one["content"])  # type: ignore[arg-type]
        for one in conversation
    ]
