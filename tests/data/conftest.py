"""Small real clips, and those of `small`."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.data.small import small_spec, write_tokenizer
from vidlmm.spec import ModelSpec
from vidlmm.text.tokenizer import Tokenizer, load_tokenizer


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
    """`small.write_tokenizer`."""
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def tokenizer(tokenizer_dir: Path) -> Tokenizer:
    return load_tokenizer(tokenizer_dir)


@pytest.fixture(scope="session")
def spec() -> ModelSpec:
    """`small.small_spec`."""
    return small_spec()


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
