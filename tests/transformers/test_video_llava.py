"""Video-LLaVA of transformers, there and back: videos, pictures and text."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.transformers import theirs
from vidlmm.generate.items import Image, Medium, Video
from vidlmm.layout import Item, item_plan
from vidlmm.spec import ModelSpec

SIDE = 28
IMAGE_TOKEN, VIDEO_TOKEN = 129, 130
RNG = np.random.default_rng(13)
WORDS = RNG.integers(0, 128, 20).tolist()
FRAMES = RNG.standard_normal((8, SIDE, SIDE, 3)).astype(np.float32)
PICTURE = RNG.standard_normal((1, SIDE, SIDE, 3)).astype(np.float32)
KINDS = ("text", "video", "picture", "picture and video")


def port(**fields: Any) -> Any:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    text = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    text |= {"model_type": "llama", "vocab_size": 131, "max_position_embeddings": 512}
    config = theirs.transformers.VideoLlavaConfig(
        **{
            "vision_config": {"model_type": "clip_vision_model", **sizes, "image_size": SIDE, "patch_size": 14},
            "text_config": {**text, **fields.pop("text", {})},
            "image_token_index": IMAGE_TOKEN,
            "video_token_index": VIDEO_TOKEN,
            "image_seq_length": 4,
            "video_seq_length": 8 * 5,
            **fields,
        }
    )
    return theirs.made("VideoLlavaForConditionalGeneration", config)


def asked(spec: ModelSpec, kind: str) -> tuple[list[int], list[Medium], dict[str, np.ndarray]]:
    """Token ids with a token for every place, our media, and transformers'."""
    ids = WORDS[:4]
    media: list[Medium] = []
    given: dict[str, np.ndarray] = {}
    if "picture" in kind:
        ids = [*ids, *[IMAGE_TOKEN] * len(item_plan(Item("image", 1), spec)), *WORDS[4:6]]
        media.append(Image(PICTURE))
        given["pixel_values_images"] = PICTURE.transpose(0, 3, 1, 2)
    if "video" in kind:
        ids = [*ids, *[VIDEO_TOKEN] * len(item_plan(Item("video", 8), spec))]
        media.append(Video(FRAMES))
        given["pixel_values_videos"] = FRAMES.transpose(0, 3, 1, 2)[None]
    return [*ids, *WORDS[6:]], media, given


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind: str, tmp_path: Path):
    theirs.check_there_and_back(port(), tmp_path, partial(asked, kind=kind))


@pytest.mark.parametrize(
    "fields",
    [{"vision_feature_layer": -1}, {"text": {"num_key_value_heads": 2, "head_dim": 24}}],
    ids=["the last layer", "other heads"],
)
def test_variants_there_and_back(fields: dict[str, Any], tmp_path: Path):
    theirs.check_there_and_back(port(**fields), tmp_path, partial(asked, kind="picture and video"))


# The beginnings that transformers 5 writes, and those of other releases' files.
WRITTEN = (
    "language_model.model.",
    "language_model.lm_head.",
    "multi_modal_projector.",
    "video_tower.",
    "image_tower.",
)
NEWER = ("model.language_model.", "lm_head.", "model.multi_modal_projector.")
NAMES = {
    "the hub": {f"{kind}_tower.": f"{kind}_tower.vision_model." for kind in ("video", "image")},
    "transformers 4.52": dict(
        zip(WRITTEN, (*NEWER, "model.video_tower.vision_model.", "model.image_tower.vision_model."), strict=True)
    ),
    "transformers 5 in memory": dict(zip(WRITTEN, (*NEWER, "model.video_tower.", "model.image_tower."), strict=True)),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_other_names_are_read_written_back_and_read_there(names: dict[str, str], tmp_path: Path):
    theirs_here = port()
    theirs_here.save_pretrained(tmp_path / "written")
    other = theirs.rewritten(tmp_path / "written", tmp_path / "other", names)
    theirs.check_read_and_back(theirs_here, other, tmp_path / "ours", partial(asked, kind="picture and video"))
