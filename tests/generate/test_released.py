"""A released folder that talks: the same model class, prompts and programs as a run's."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vidlmm
from tests.checkpoint.released import load_case, write_folder
from vidlmm import api
from vidlmm.generate import Sampling, make_prompt, show
from vidlmm.layout.row import IMAGE
from vidlmm.text import Tokenizer, Turn, encode_prompt, get_template

SHORT = Sampling(max_new_tokens=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA-Video with a tokenizer, and two pictures."""
    goldens = Path(__file__).parents[1] / "goldens" / "llava_video"
    case, _ = load_case(goldens / "16_stray_config")
    made = write_folder(tmp_path_factory.mktemp("released"), case)
    for file in (goldens / "12_tokenization").glob("*tok*.json"):
        shutil.copy(file, made / file.name)
    rng = np.random.default_rng(0)
    for name, size in (("wide.png", (30, 60)), ("tall.png", (50, 20))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(made / name)
    return made


@pytest.fixture(scope="module")
def tokenizer(model: vidlmm.Model) -> Tokenizer:
    assert model.tokenizer is not None
    return model.tokenizer


@pytest.fixture(scope="module")
def model(folder: Path) -> vidlmm.Model:
    case, _ = load_case(Path(__file__).parents[1] / "goldens" / "llava_video" / "16_stray_config")
    return vidlmm.from_pretrained(folder, dtype="float32", vision_config=case["vision_config"], frames=2)


def test_an_answer_is_what_the_whole_sequence_says_at_every_step(
    model: vidlmm.Model, tokenizer: Tokenizer, folder: Path
) -> None:
    turns = [Turn("user", "<image>\nhello")]
    picture = show("image", folder / "wide.png", model.spec)
    prompt = make_prompt(turns, [picture], model.spec, tokenizer)
    assert picture.views is not None and len(prompt.frames) == len(picture.views) > 1
    answer = model.generate([prompt], SHORT)[0]
    ids = encode_prompt(turns, get_template(model.spec.prompt.template), tokenizer)
    assert (ids == IMAGE).sum() == 1
    media = [vidlmm.Image(picture.views, picture.size)]
    logits = model.logits(np.concatenate([ids, answer.ids]).astype(np.int32), media)
    last = len(prompt.row) - 1
    likeliest = logits[last : last + len(answer.ids), : tokenizer.vocab_size].argmax(-1)
    assert tuple(likeliest) == answer.ids
    assert model.chat(folder / "wide.png", "hello", sampling=SHORT) == answer.text


def test_several_pictures_are_one_squared_view_each(model: vidlmm.Model, tokenizer: Tokenizer, folder: Path) -> None:
    shown = [show("image", folder / name, model.spec) for name in ("wide.png", "tall.png")]
    prompt = make_prompt([Turn("user", "<image><image>\nhello")], shown, model.spec, tokenizer)
    assert len(prompt.frames) == 2
    grey = (127, 127, 127)
    assert (prompt.frames[0][0, 60] == grey).all() and (prompt.frames[1][60, 0] == grey).all()


def test_a_released_folder_opens_with_load_too(
    folder: Path, model: vidlmm.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def opened(path: Path, **given: Any) -> vidlmm.Model:
        asked.update(given, path=path)
        return model

    monkeypatch.setattr(api, "from_pretrained", opened)
    assert api.load(folder, frames=3) is model
    assert asked == {"path": folder, "dtype": "bfloat16", "frames": 3, "slots": 8}


def test_frames_of_a_video_can_be_changed(model: vidlmm.Model) -> None:
    assert model.spec.frames == replace(model.module.spec.frames, count=2)
