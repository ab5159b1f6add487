"""The coloured view of a sample."""

import re

from tests.text.cases import HOUND, SFT
from vidlmm.text import TEMPLATES, Turn, encode_training, load_tokenizer, show

CHAT = [Turn("user", "<video>\nSo?"), Turn("assistant", "Été.\nYes")]
CODES = re.compile(r"\x1b\[[0-9;]*m")


def test_plain_marks():
    tokenizer = load_tokenizer(SFT / "tokenizer_qwen")
    encoded = encode_training(CHAT, TEMPLATES["qwen_answer"], tokenizer, system="")
    assert show(encoded, tokenizer, colour=False) == (
        f"{len(encoded.ids)} tokens, {encoded.trained} trained (31 %), shown in ⟦ ⟧\n"
        "<|im_start|>user\n<image>\nSo?<|im_end|>\n<|im_start|>assistant\n⟦Été.↵\nYes<|im_end|>⟧\n\n"
    )


def test_colours_mark_the_same_text():
    tokenizer = load_tokenizer(SFT / "tokenizer_qwen")
    encoded = encode_training(CHAT, TEMPLATES["qwen_1_5"], tokenizer)
    coloured, plain = (show(encoded, tokenizer, colour=flag) for flag in (True, False))
    assert "\x1b" not in plain
    assert CODES.sub("", coloured).split("\n")[1:] == re.sub("[⟦⟧]", "", plain).split("\n")[1:]
    assert "\x1b[36m<image>\x1b[0m" in coloured
    assert all(line.count("\x1b[0m") * 2 == len(CODES.findall(line)) for line in coloured.split("\n"))


def test_repeated_placeholders_are_counted_and_spaces_kept():
    tokenizer = load_tokenizer(HOUND / "tokenizer.model", legacy=False)
    encoded = encode_training(CHAT, TEMPLATES["video_llava"], tokenizer)
    text = show(encoded, tokenizer, colour=False)
    assert "USER: <image>×8\nSo? ASSISTANT:⟦ Été.↵\nYes</s>⟧\n" in text
