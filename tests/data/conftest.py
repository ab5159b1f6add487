"""Small real clips, a small tokenizer and a small spec."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tokenizers import Tokenizer as HfTokenizer
from tokenizers import decoders, models, pre_tokenizers

from vidlmm.spec import ConnectorSpec, DecoderSpec, FrameSpec, ModelSpec, PixelSpec, PromptSpec, TowerSpec
from vidlmm.text.tokenizer import Tokenizer, load_tokenizer

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def write_clip(path: Path, frames: int = 12, fps: int = 6, seed: int = 0) -> None:
    """An H.264 clip of 48x32 pixels with a square that moves; `seed` decides the colours."""
    colour = np.random.default_rng(seed).integers(40, 255, 3).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.time_base = Fraction(1, fps)
        for number in range(frames):
            picture = np.zeros((32, 48, 3), np.uint8)
            picture[8:16, 2 * number : 2 * number + 8] = colour
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clip0.mp4 to clip5.mp4, picture.png, and broken.mp4, which is not a video."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("clips")
    for number in range(6):
        write_clip(folder / f"clip{number}.mp4", frames=10 + number, seed=number)
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(folder / "picture.png")
    (folder / "broken.mp4").write_bytes(b"this is no video " * 20)
    return folder


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte tokenizer with ChatML's special tokens, as files."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: number for number, piece in enumerate(alphabet)}
    tokenizer = HfTokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "additional_special_tokens": list(SPECIAL[1:])}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_dir: Path) -> Tokenizer:
    return load_tokenizer(tokenizer_dir)


@pytest.fixture(scope="session")
def spec() -> ModelSpec:
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


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as a .json file (or .jsonl, by the name) and says where."""

    def write(rows: list, name: str = "rows.json") -> Path:
        path = tmp_path / name
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            path.write_text(json.dumps(rows))
        return path

    return write


def talk(*texts: str) -> list[dict[str, str]]:
    """Turns of human and gpt in the LLaVA format."""
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]
