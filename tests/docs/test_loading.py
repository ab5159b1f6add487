"""What docs/loading.md shows runs, with a tiny checkpoint in the place of the hub id.

Answers are not written here: generation has tests of its own, and its programs take long to compile.
"""

import inspect
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vidlmm
from tests.checkpoint.released import load_case, write_folder
from tests.conftest import GOLDENS
from tests.generate.conftest import _cache, compile_cache
from tests.media.clips import make
from vidlmm.cli.main import build_parser
from vidlmm.generate import Answer, Generator, Prompt

__all__ = ["_cache", "compile_cache"]
PAGE = (GOLDENS.parents[1] / "docs" / "loading.md").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    case, _ = load_case(GOLDENS / "llava_video/16_stray_config")
    made = write_folder(tmp_path / "tiny", case)
    for file in (GOLDENS / "llava_video/12_tokenization").glob("*tok*.json"):
        shutil.copy(file, made / file.name)
    return made


def test_the_examples_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "clip.mp4")
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "map.png")
    case, _ = load_case(GOLDENS / "llava_video/16_stray_config")
    opened = vidlmm.from_pretrained

    def tiny(name: str, **given: Any) -> vidlmm.Model:
        assert name == "lmms-lab/LLaVA-Video-7B-Qwen2"
        settings: dict[str, Any] = {"frames": 2, "slots": 1, "vision_config": case["vision_config"]} | given
        return opened(folder, **settings)

    asked: list[Prompt] = []

    def answered(self: Generator, prompts: list[Prompt], *given: Any, **more: Any) -> list[Answer]:
        asked.extend(prompts)
        return [Answer(prompt.id, "hello", (7,), "stop") for prompt in prompts]

    monkeypatch.setattr(vidlmm, "from_pretrained", tiny)
    monkeypatch.setattr(Generator, "generate", answered)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/loading.md", "exec"), names)
    assert [prompt.row.frames for prompt in asked] == [2, 2 + 2, 2 + 2]
    spec, tokens = names["model"].spec, names["tokens"]
    assert tokens.shape == (4 * 5 * 6, spec.decoder.width)
    assert names["logits"].shape == (len(names["ids"]) - 1 + len(tokens), spec.decoder.vocab)
    np.testing.assert_allclose(names["pair"][0], names["logits"], atol=1e-5)
    assert (tmp_path / "out/model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("line", re.findall(r"^vidlmm .*", PAGE, re.MULTILINE))
def test_the_commands_are_understood(line: str) -> None:
    arguments = shlex.split(line)[1:]
    assert build_parser(arguments[0]).parse_args(arguments).verb == arguments[0]


def test_every_argument_is_told() -> None:
    table = PAGE.split("## Arguments\n")[1].split("```")[0]
    told = set(re.findall(r"(?:^\| |, )`(\w+)=", table, re.MULTILINE))
    assert told == set(inspect.signature(vidlmm.from_pretrained).parameters) - {"path"}
