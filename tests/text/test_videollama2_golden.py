"""VideoLLaMA 2: fine-tuning and pre-training labels of the original code."""

import numpy as np
import pytest

from tests.text.cases import SFT, case, turns
from vidlmm.text import TEMPLATES, Turn, encode_prompt, encode_training, load_tokenizer, render

FORMS = {
    "sft_qwen": ("videollama2_qwen2", "tokenizer_qwen"),
    "sft_mistral": ("videollama2_mistral", "tokenizer_mistral"),
    "pretrain_main_qwen": ("videollama2_pretrain", "tokenizer_qwen"),
    "pretrain_main_mistral": ("videollama2_pretrain", "tokenizer_mistral"),
    "pretrain_av_qwen": ("videollama2_pretrain_av", "tokenizer_qwen"),
}
RUNS = [name.removesuffix("/labels") for name in case(SFT)["outputs"] if name.endswith("/labels")]


@pytest.fixture(scope="module")
def outputs():
    with np.load(SFT / "case.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("run", RUNS)
def test_training(run, outputs):
    conversation, form = run.split("/")
    name, folder = FORMS[form]
    chat = turns(case(SFT)["settings"]["conversations"][conversation]["turns"])
    tokenizer = load_tokenizer(SFT / folder)
    encoded = encode_training(chat, TEMPLATES[name], tokenizer)
    assert encoded.ids.tolist() == outputs[f"{run}/input_ids"].tolist()
    assert encoded.labels.tolist() == outputs[f"{run}/labels"].tolist()
    expected = case(SFT)["expected"]["cases"][conversation][form]
    assert render(chat, TEMPLATES[name]) == expected["text"]
    assert tokenizer.decode(encoded.labels[encoded.labels >= 0].tolist(), False) == expected["trained_text"]


@pytest.mark.parametrize(("form", "name"), [("qwen", "videollama2_qwen2"), ("mistral", "videollama2_mistral")])
def test_prompt(form, name):
    asked = [Turn("user", case(SFT)["settings"]["prompt_user"])]
    text = case(SFT)["expected"]["generation_prompts"][form]
    assert render(asked, TEMPLATES[name]) == text
    tokenizer = load_tokenizer(SFT / f"tokenizer_{form}")
    ids = encode_prompt(asked, TEMPLATES[name], tokenizer).tolist()
    assert ids.count(-201) == 1
    before, behind = text.split("<video>")
    assert ids == [*tokenizer.encode(before), -201, *tokenizer.encode(behind)]


def test_first_release_prompts():
    asked = [Turn("user", "What?\n<video>")]
    text = render(asked, TEMPLATES["videollama2_mistral_v1"])
    assert text.startswith("[INST] <<SYS>>\nA chat between a curious user")
    assert text.endswith("user's questions.\n<</SYS>>\n\n<video>\nWhat? [/INST]")
    answered = [*asked, Turn("assistant", "A cat.")]
    assert render(answered, TEMPLATES["videollama2_mistral_v1"]).endswith("What? [/INST] A cat. </s>")
    first, later = (render(asked, TEMPLATES[f"videollama2_mistral{v}_chat"]) for v in ("_v1", ""))
    assert "positive in nature.\n\nIf a question" in first
    assert "positive in nature.\nIf a question" in later
    assert first.replace("nature.\n\n", "nature.\n") == later
