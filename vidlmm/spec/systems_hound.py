"""LLaVA-Hound (Zhang et al. 2024) and Video-LLaVA, its base, as values: three graphs of one pair of towers.

graph                           class token       placeholder            attention along time
A  LLaVA-Hound                  left out          one -201 a video       yes
B  Video-LLaVA, original        kept in videos    eight -200 a video     yes
C  Video-LLaVA, transformers    kept in videos    one token a place      none: its conversion drops it
"""

from dataclasses import replace

from vidlmm.spec.connector import ConnectorSpec
from vidlmm.spec.decoder import DecoderSpec
from vidlmm.spec.frames import FrameSpec
from vidlmm.spec.model import ModelSpec
from vidlmm.spec.pixels import CLIP_MEAN, CLIP_STD, PixelSpec
from vidlmm.spec.prompt import PromptSpec
from vidlmm.spec.systems_valley import CLIP_224, CLIP_L14_224

# LanguageBind_Image, OpenCLIP's DataComp ViT-L/14 by origin: exact GELU; hidden_states[-2] of 24 layers.
LANGUAGEBIND_IMAGE = replace(CLIP_L14_224, activation="gelu", select="patch")
# LanguageBind_Video_merge.
LANGUAGEBIND_VIDEO = replace(LANGUAGEBIND_IMAGE, temporal=8)

VICUNA_7B = DecoderSpec(
    vocab=32000,
    width=4096,
    layers=32,
    heads=32,
    kv_heads=32,
    mlp=11008,
    rope_base=1e4,
    norm_eps=1e-5,
    qkv_bias=False,
    max_length=4096,
)

# LanguageBind's video transform: normalised, then resized without antialiasing, the long side rounded down.
HOUND_VIDEO = PixelSpec(
    size=224,
    fit="shortest_crop",
    filter="bilinear",
    rounding="pytorchvideo",
    normalise_first=True,
    mean=CLIP_MEAN,
    std=CLIP_STD,
)
HOUND_IMAGE = PixelSpec(
    size=224,
    fit="shortest_crop",
    rounding="torchvision",
    pad="square",
    normalise_first=True,
    mean=CLIP_MEAN,
    std=CLIP_STD,
)
# 8 x 256 tokens a video. Of a video file Hound's reader sees the first ten seconds, of a folder of frames all.
LLAVA_HOUND = ModelSpec(
    name="llava_hound",
    tower=LANGUAGEBIND_VIDEO,
    image_tower=LANGUAGEBIND_IMAGE,
    connector=ConnectorSpec(pool_stride=1, newline="no_token"),
    decoder=VICUNA_7B,
    frames=FrameSpec(rule="linspace", count=8, first_seconds=10.0, time_text="none"),
    pixels=HOUND_VIDEO,
    image_pixels=HOUND_IMAGE,
    prompt=PromptSpec(template="hound"),
)
# 8 x 257 tokens a video, 256 a picture.
VIDEO_LLAVA_7B = replace(
    LLAVA_HOUND,
    name="video_llava_7b",
    tower=replace(LANGUAGEBIND_VIDEO, select="all"),
    frames=replace(LLAVA_HOUND.frames, first_seconds=0.0),
    prompt=PromptSpec(template="video_llava_chat"),
    placeholders="frames",
)
# transformers' port: its config names no activation, which makes it quick_gelu; the vocabulary is padded to 64s.
CLIP_PORT = replace(LANGUAGEBIND_IMAGE, activation="quick_gelu")
VIDEO_LLAVA_7B_HF = replace(
    VIDEO_LLAVA_7B,
    name="video_llava_7b_hf",
    tower=replace(CLIP_PORT, select="all"),
    image_tower=CLIP_PORT,
    decoder=replace(VICUNA_7B, vocab=32064),
    pixels=CLIP_224,
    image_pixels=None,
    prompt=PromptSpec(template="hound", system=""),
    placeholders="expanded",
    special_tokens=(("<image>", 32000), ("<video>", 32001)),
)

HOUND_SYSTEMS = (LLAVA_HOUND, VIDEO_LLAVA_7B, VIDEO_LLAVA_7B_HF)
