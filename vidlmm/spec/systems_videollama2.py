"""VideoLLaMA 2 (Cheng et al. 2024) as values: the releases, and what the paper says of them.

DAMO-NLP-SG/VideoLLaMA2, branches main and, for sound, audio_visual. Paper and releases differ in three things:

    connector   Table 1 and Algorithm 1 show no padding: 8 frames give 4 x 12 x 12 = 576 tokens. The released
                stc_connector pads the convolution on all sides: 5 x 13 x 13 = 845. That of 2.1 pads nothing.
    pixels      pictures and frames are padded to a square, says the paper, and training does so; the released
                inference does not (__init__.py:24-27).
    frames      the 7B was trained with borders of segments that were rounded first; inference takes the others.
"""

from dataclasses import replace

from vidlmm.spec.audio import AudioSpec
from vidlmm.spec.connector import ConnectorSpec
from vidlmm.spec.decoder import DecoderSpec
from vidlmm.spec.frames import FrameSpec
from vidlmm.spec.model import ModelSpec
from vidlmm.spec.pixels import CLIP_MEAN, CLIP_STD, PixelSpec
from vidlmm.spec.prompt import PromptSpec
from vidlmm.spec.stc import STC_CONNECTORS
from vidlmm.spec.tower import CLIP_L14, TowerSpec

# openai/clip-vit-large-patch14-336, hidden_states[-2] of 24 layers, class token left out (encoder.py:31-39).
CLIP_L14_336 = replace(CLIP_L14, image_size=336, layers=23)
CLIP_336 = PixelSpec(size=336, fit="shortest_crop", mean=CLIP_MEAN, std=CLIP_STD)

# Mistral-7B-Instruct-v0.2 and Mixtral-8x7B-Instruct-v0.1: no sliding window.
MISTRAL_7B = DecoderSpec(
    vocab=32000,
    width=4096,
    layers=32,
    heads=32,
    kv_heads=8,
    mlp=14336,
    rope_base=1e6,
    norm_eps=1e-5,
    qkv_bias=False,
)
MIXTRAL_8X7B = replace(MISTRAL_7B, experts=8, top_k=2)
QWEN2_7B_INSTRUCT = DecoderSpec()
QWEN2_72B_INSTRUCT = DecoderSpec(width=8192, layers=80, heads=64, kv_heads=8, mlp=29568)

STC = ConnectorSpec(kind="stc", pool_stride=1, newline="no_token", stc=STC_CONNECTORS["stc_connector"])
STC_V35 = replace(STC, stc=STC_CONNECTORS["stc_connector_v35"])
FRAMES = FrameSpec(rule="segment_centres", count=8, folder_fps=3.0, time_text="none")
MISTRAL_CHAT = PromptSpec(template="videollama2_mistral_chat")
QWEN2_CHAT = PromptSpec(template="videollama2_qwen2")

VIDEOLLAMA2_7B_RELEASED = ModelSpec(
    name="videollama2_7b_released",
    tower=CLIP_L14_336,
    connector=STC,
    decoder=MISTRAL_7B,
    frames=FRAMES,
    pixels=CLIP_336,
    prompt=MISTRAL_CHAT,
)
VIDEOLLAMA2_7B_16F_RELEASED = replace(
    VIDEOLLAMA2_7B_RELEASED, name="videollama2_7b_16f_released", frames=replace(FRAMES, count=16)
)
VIDEOLLAMA2_8X7B_RELEASED = replace(VIDEOLLAMA2_7B_RELEASED, name="videollama2_8x7b_released", decoder=MIXTRAL_8X7B)
VIDEOLLAMA2_72B_RELEASED = replace(
    VIDEOLLAMA2_7B_RELEASED, name="videollama2_72b_released", decoder=QWEN2_72B_INSTRUCT, prompt=QWEN2_CHAT
)
VIDEOLLAMA2_1_7B_16F_RELEASED = ModelSpec(
    name="videollama2_1_7b_16f_released",
    tower=TowerSpec(),
    connector=STC_V35,
    decoder=QWEN2_7B_INSTRUCT,
    frames=replace(FRAMES, count=16),
    pixels=PixelSpec(),
    prompt=QWEN2_CHAT,
)
# BEATs iter3+ and a projector of its own beside what the 16F release sees; a video's audio tokens follow its own.
VIDEOLLAMA2_1_7B_AV_RELEASED = replace(
    VIDEOLLAMA2_1_7B_16F_RELEASED, name="videollama2_1_7b_av_released", audio=AudioSpec()
)


def _as_published(released: ModelSpec) -> ModelSpec:
    """What the paper says of a release."""
    return replace(
        released,
        name=released.name.removesuffix("_released"),
        connector=STC_V35,
        pixels=replace(released.pixels, pad="square"),
    )


VIDEOLLAMA2_7B = replace(_as_published(VIDEOLLAMA2_7B_RELEASED), frames=replace(FRAMES, rule="segment_centres_old"))
VIDEOLLAMA2_7B_16F = _as_published(VIDEOLLAMA2_7B_16F_RELEASED)
VIDEOLLAMA2_8X7B = _as_published(VIDEOLLAMA2_8X7B_RELEASED)
VIDEOLLAMA2_72B = _as_published(VIDEOLLAMA2_72B_RELEASED)
VIDEOLLAMA2_1_7B_16F = _as_published(VIDEOLLAMA2_1_7B_16F_RELEASED)
VIDEOLLAMA2_1_7B_AV = _as_published(VIDEOLLAMA2_1_7B_AV_RELEASED)

VIDEOLLAMA2_RELEASES = (
    VIDEOLLAMA2_7B_RELEASED,
    VIDEOLLAMA2_7B_16F_RELEASED,
    VIDEOLLAMA2_8X7B_RELEASED,
    VIDEOLLAMA2_72B_RELEASED,
    VIDEOLLAMA2_1_7B_16F_RELEASED,
    VIDEOLLAMA2_1_7B_AV_RELEASED,
)
VIDEOLLAMA2_SYSTEMS = (
    VIDEOLLAMA2_7B,
    VIDEOLLAMA2_7B_16F,
    VIDEOLLAMA2_8X7B,
    VIDEOLLAMA2_72B,
    VIDEOLLAMA2_1_7B_16F,
    VIDEOLLAMA2_1_7B_AV,
    *VIDEOLLAMA2_RELEASES,
)
