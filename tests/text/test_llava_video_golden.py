"""LLaVA-NeXT: ids, labels and prompts of the original code."""

import pytest

from tests.text.cases import QWEN, case, turns
from vidlmm.text import TEMPLATES, Turn, encode_prompt, encode_training, load_tokenizer, render

CHATS = case(QWEN)["qwen"]
WRITTEN = ("qwen_1_5", "qwen_2", "qwen_2_5", "vicuna_v1", "llava_v1", "llama_2", "mistral_instruct")


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(QWEN)


@pytest.mark.parametrize("chat", CHATS, ids=[chat["kind"] for chat in CHATS])
def test_qwen_training(chat, tokenizer):
    encoded = encode_training(turns(chat["conversations_in"]), TEMPLATES["qwen_1_5"], tokenizer)
    assert encoded.ids.tolist() == chat["input_ids"]
    assert encoded.labels.tolist() == chat["labels"]


def test_stage_one_captions(tokenizer):
    chat = case(QWEN)["plain"]
    encoded = encode_training(turns(chat["conversations_in"]), TEMPLATES["plain"], tokenizer)
    assert encoded.ids.tolist() == chat["input_ids"]
    assert encoded.labels.tolist() == chat["labels"]


def test_prompt(tokenizer):
    expected = case(QWEN)["inference_qwen_1_5"]
    asked = [Turn("user", "<image>\nWhat happens?")]
    assert render(asked, TEMPLATES["qwen_1_5"]) == expected["prompt"]
    assert encode_prompt(asked, TEMPLATES["qwen_1_5"], tokenizer).tolist() == expected["input_ids"]


@pytest.mark.parametrize("name", WRITTEN)
def test_text_of_two_rounds(name):
    chat = [Turn("user", "<image>\nQ1"), Turn("assistant", "A1"), Turn("user", "Q2")]
    assert render(chat, TEMPLATES[name]) == case(QWEN)["templates"][name]["two_turn_prompt"]
