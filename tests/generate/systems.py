"""A tiny checkpoint of every decoder family and system layout, and rows of every kind that it reads."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import vidlmm
from tests.checkpoint.released import load_case, write_folder
from tests.conftest import GOLDENS
from vidlmm.generate.items import Audio, Image, Medium, Video
from vidlmm.layout.row import AUDIO, IMAGE, VIDEO
from vidlmm.spec import ModelSpec

# Name of the test, golden case, decoder.
CASES = {
    "llava_video": "llava_video/04_image_anyres",  # Qwen2 with biases
    "slowfast": "llava_video/02_video_average_slowfast",
    "llava_hf": "llava_video/05_hf_onevision_video",
    "llavaction": "llava_video/06_llavaction_one_token",
    "videollama2_mistral": "videollama2/stc_connector_clip_mistral_8f",
    "videollama2_mixtral": "videollama2/stc_connector_clip_mixtral_8f",
    "videollama2_av": "videollama2/av_siglip_beats_qwen2_16f",
    "valley": "valley/valley_v3",  # Llama
    "hound": "hound/hound_full",
    "video_llava_hf": "hound/hf_videollava_gelu",
}
Row = tuple[list[int], list[Medium]]


@cache
def model(name: str, dtype: str = "float32") -> vidlmm.Model:
    """The case's checkpoint, loaded as users load it."""
    folder = GOLDENS / CASES[name]
    case, _ = load_case(folder)
    given: dict[str, Any] = {key: case[key] for key in ("vision_config", "audio_config") if key in case}
    if name == "valley":
        given["special_tokens"] = case["settings"]["special_tokens"]
    with TemporaryDirectory() as made:
        return vidlmm.from_pretrained(write_folder(Path(made), case), dtype=dtype, **given)


def rows(spec: ModelSpec) -> dict[str, Row]:
    """Text, pictures, videos and sounds, short and long, alone and together; of random numbers."""
    rng = np.random.default_rng(7)
    special = {id for _, id in spec.special_tokens}
    words = [id for id in range(3, spec.decoder.vocab) if id not in special]

    def text(count: int) -> list[int]:
        return rng.choice(words, count).tolist()

    def frames(count: int) -> np.ndarray:
        pixels = spec.pixels if count else spec.image_pixels or spec.pixels
        return rng.standard_normal((max(count, 1), pixels.size, pixels.size, 3)).astype(np.float32)

    def sound(count: int) -> np.ndarray:
        return rng.standard_normal((count, spec.audio.mel if spec.audio else 0)).astype(np.float32)

    def picture() -> Image:
        return Image(frames(0))

    window = spec.tower.temporal or (8 if spec.placeholders == "frames" else 1)
    short, long = (max(window, 2), max(2 * window, 5)) if window == 1 else (window, window)
    found: dict[str, Row] = {
        "text": (text(5), []),
        "longer text": (text(37), []),
        "picture": ([*text(3), IMAGE, *text(4)], [picture()]),
        "two pictures": ([*text(2), IMAGE, *text(3), IMAGE, *text(2)], [picture(), picture()]),
        "video": ([*text(3), VIDEO, *text(2)], [Video(frames(short))]),
        "longer video": ([VIDEO, *text(9)], [Video(frames(long))]),
    }
    if spec.connector.unpooled_images and spec.pixels.pinpoints:
        width, height = spec.pixels.pinpoints[1]
        views = 1 + (width // spec.pixels.size) * (height // spec.pixels.size)
        size = (width, height - 5) if width > height else (width - 5, height)
        found["tiles"] = ([*text(4), IMAGE, *text(6)], [Image(frames(views), size)])
        found["tiles and a video"] = (
            [IMAGE, *text(2), VIDEO, *text(3)],
            [Image(frames(views), size), Video(frames(short))],
        )
    if spec.audio is not None:
        found["sound"] = ([*text(2), AUDIO, *text(3)], [Audio(sound(98))])
        found["video with sound"] = ([VIDEO, *text(5)], [Video(frames(short), sound(130))])
    return found
