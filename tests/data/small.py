"""A small tokenizer and a small spec."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from vidlmm.spec import ConnectorSpec, DecoderSpec, FrameSpec, ModelSpec, PixelSpec, PromptSpec, TowerSpec

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def write_tokenizer(folder: Path) -> Path:
    """A byte tokenizer with ChatML's special tokens, as files of a folder."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: number for number, piece in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "additional_special_tokens": list(SPECIAL[1:])}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder


def small_spec() -> ModelSpec:
    """4 frames of 16x16 pixels, 4 patches a side, pooled to 2x2 with a newline a grid row: 6 places a frame."""
    return ModelSpec(
        name="tiny",
        tower=TowerSpec(image_size=16, patch_size=4, width=8, layers=1, heads=1, mlp=8),
        connector=ConnectorSpec(pool_mode="average", pool_stride=2, newline="grid"),
        decoder=DecoderSpec(vocab=512, width=8, layers=1, heads=1, kv_heads=1, mlp=8, max_length=512),
        frames=FrameSpec(count=4, time_text="none"),
        pixels=PixelSpec(size=16),
        prompt=PromptSpec(template="qwen_1_5"),
    )
