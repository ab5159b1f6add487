"""Checkpoints to convert, and how to look at what they became."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from tests.checkpoint.released import write_folder
from tests.conftest import GOLDENS
from tests.media.golden_case import Case
from vidlmm.checkpoint.converting import Plan
from vidlmm.checkpoint.layout import Overrides
from vidlmm.checkpoint.tensors import read_header

ONE_TOKEN, GRID = (GOLDENS / "llava_video" / name for name in ("03_video_bilinear_one_token", "01_video_bilinear_grid"))
PORT, HOUND = GOLDENS / "llava_video" / "05_hf_onevision_video", GOLDENS / "hound" / "hound_full"


def source_of(case: Path, folder: Path, **how: Any) -> tuple[Path, Overrides]:
    """A case's checkpoint, and what its loader has to be told."""
    text = Case(case).text
    return write_folder(folder, text, **how), Overrides(vision_config=text.get("vision_config") or {})


def stored(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Type, shape and bytes of every tensor of a folder."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in read_header(path).tensors.items():
            found[name] = (tensor.dtype, tensor.shape, np.asarray(tensor.read()).tobytes())
    return found


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def given_of(plan: Any) -> Overrides:
    """What the loader of a converted checkpoint has to be told."""
    assert isinstance(plan, Plan)
    return plan.given


def with_tokenizer(folder: Path, words: int) -> Path:
    """The folder with a tokenizer of so many words."""
    vocab = {f"w{id}": id for id in range(words - 2)} | {"<|im_start|>": words - 2, "<|im_end|>": words - 1}
    Tokenizer(WordLevel(vocab, unk_token="w0")).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "w1", "added_tokens_decoder": {}}')
    return folder
