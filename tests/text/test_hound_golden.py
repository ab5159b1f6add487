"""LLaVA-Hound, Video-LLaVA and LLaVA-NeXT's Vicuna path: ids and masks of the original code."""

import dataclasses

import numpy as np
import pytest

from tests.text.cases import HOUND, case, turns
from vidlmm.text import TEMPLATES, Turn, encode_prompt, encode_training, load_tokenizer, render

CHATS = {one["name"]: one["conversations"] for one in case(HOUND)["inputs"]["conversations"]}
ROWS = case(HOUND)["row_names"]
# The case calls the functions behind the step that moves the tag, but for Hound's own rows.
TEMPLATE_OF = {
    "hound_v1": TEMPLATES["hound"],
    "llava_next_v1": dataclasses.replace(TEMPLATES["vicuna_v1"], tag_front="no"),
    "llava_next_qwen": dataclasses.replace(TEMPLATES["qwen_1_5"], tag_front="no"),
    "videollava_v1": dataclasses.replace(TEMPLATES["video_llava"], tag_front="no"),
}


@pytest.fixture(scope="module")
def outputs():
    with np.load(HOUND / "case.npz") as arrays:
        return dict(arrays)


def expected(row, outputs):
    index = ROWS.index(row)
    length = outputs["lengths"][index]
    return outputs["input_ids"][index, :length].tolist(), outputs["labels"][index, :length].tolist()


@pytest.mark.parametrize("row", [row for row in ROWS if row.count("/") and "plain" not in row])
def test_training(row, outputs):
    mode, *legacy, name = row.split("/")
    if legacy:
        tokenizer = load_tokenizer(HOUND / "tokenizer.model", legacy=legacy[0] == "legacy_True")
    else:
        tokenizer = load_tokenizer(HOUND / "qwen_tokenizer")
    encoded = encode_training(turns(CHATS[name]), TEMPLATE_OF[mode], tokenizer)
    ids, labels = expected(row, outputs)
    assert encoded.ids.tolist() == ids
    assert encoded.labels.tolist() == labels
    assert (encoded.trained == 0) == (row in case(HOUND)["expected"]["mismatch_warnings"])


def test_captions(outputs):
    template = TEMPLATES["videollama2_pretrain_v1"]  # LLaVA's plain form with <video> as -201, as in Hound
    tokenizer = load_tokenizer(HOUND / "tokenizer.model", legacy=False)
    encoded = encode_training(turns(case(HOUND)["inputs"]["plain_conversation"]), template, tokenizer)
    assert (encoded.ids.tolist(), encoded.labels.tolist()) == expected("hound_plain/caption", outputs)


@pytest.mark.parametrize("legacy", [True, False])
def test_prompt(legacy, outputs):
    asked = [Turn("user", case(HOUND)["inputs"]["inference_question"])]
    assert render(asked, TEMPLATES["hound"]) == case(HOUND)["expected"]["rendered_prompts"]["hound_inference"]
    tokenizer = load_tokenizer(HOUND / "tokenizer.model", legacy=legacy)
    ids = encode_prompt(asked, TEMPLATES["hound"], tokenizer).tolist()
    assert ids == expected("hound_inference", outputs)[0]


@pytest.mark.parametrize("name", CHATS)
def test_text(name):
    text = case(HOUND)["expected"]["rendered_prompts"][f"hound_v1/{name}"]
    assert render(turns(CHATS[name]), TEMPLATES["hound"]) == text
