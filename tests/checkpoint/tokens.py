"""A tokenizer of single ASCII characters whose special tokens have the ids that a case gives them."""

import json
from collections.abc import Mapping
from pathlib import Path

from tokenizers import Tokenizer as HfTokenizer
from tokenizers import decoders, models

CHARACTERS = ("\n", *map(chr, range(32, 127)))
FIRST = len(CHARACTERS)  # the lowest id of a special token
CHATML = {"<|endoftext|>": FIRST, "<|im_start|>": FIRST + 1, "<|im_end|>": FIRST + 2}
LLAMA = {"<s>": FIRST, "</s>": FIRST + 1, "<unk>": FIRST + 2}


def write_tokenizer(folder: Path, special: Mapping[str, int]) -> Path:
    """tokenizer.json and tokenizer_config.json in a folder, which comes back."""
    vocab = {character: number for number, character in enumerate(CHARACTERS)} | dict(special)
    held = set(vocab.values())
    vocab |= {f"[unused{number}]": number for number in range(max(held)) if number not in held}
    tokenizer = HfTokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(special))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"} if "</s>" in special else {}
    names = names or {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder
