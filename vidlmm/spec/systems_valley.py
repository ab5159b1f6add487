"""Valley (Luo et al. 2023) as values: the released models, and the two other modules along time that its code has.

Every field that a release leaves open follows the released code (RupertLuo/Valley), the paper where it differs is
named beside it.
"""

from dataclasses import replace

from vidlmm.spec.connector import ConnectorSpec
from vidlmm.spec.decoder import DecoderSpec
from vidlmm.spec.frames import FrameSpec
from vidlmm.spec.model import ModelSpec
from vidlmm.spec.pixels import CLIP_MEAN, CLIP_STD, PixelSpec
from vidlmm.spec.prompt import PromptSpec
from vidlmm.spec.tower import CLIP_L14

# openai/clip-vit-large-patch14, hidden_states[-2] of 24 layers, class token kept (valley_model.py:175-183).
CLIP_L14_224 = replace(CLIP_L14, layers=23, select="all")
# LLaMA with the pad token, vi_frame, vi_start, vi_end, im_patch, im_start and im_end behind its 32000 tokens.
LLAMA_7B_VALLEY = DecoderSpec(
    vocab=32007,
    width=4096,
    layers=32,
    heads=32,
    kv_heads=32,
    mlp=11008,
    rope_base=1e4,
    norm_eps=1e-6,
    qkv_bias=False,
    max_length=2048,
)
# In the order in which train.py:104-147 adds them; a checkpoint's tokenizer goes before these numbers.
VALLEY_TOKENS = (
    ("<vi_frame>", 32001),
    ("<vi_start>", 32002),
    ("<vi_end>", 32003),
    ("<im_patch>", 32004),
    ("<im_start>", 32005),
    ("<im_end>", 32006),
)
# load_video and video_transform.py: bilinear although it is called with "nearest".
VALLEY_VIDEO = PixelSpec(
    size=224,
    fit="shortest_crop",
    filter="bilinear",
    resize=256,
    rounding="torchvision",
    mean=CLIP_MEAN,
    std=CLIP_STD,
)
CLIP_224 = PixelSpec(size=224, fit="shortest_crop", mean=CLIP_MEAN, std=CLIP_STD)

# Valley2-7b on LLaMA-2 chat: v1, the mean over frames. 8 frames in training and inference; the paper says 0.5 a second.
VALLEY2_7B = ModelSpec(
    name="valley2_7b",
    tower=CLIP_L14_224,
    connector=ConnectorSpec(kind="linear", pool_stride=1, newline="no_token", temporal="valley_v1"),
    decoder=replace(LLAMA_7B_VALLEY, norm_eps=1e-5, max_length=4096),
    frames=FrameSpec(rule="linspace", count=8, time_text="none"),
    pixels=VALLEY_VIDEO,
    image_pixels=CLIP_224,
    prompt=PromptSpec(template="valley_chat"),
    placeholders="expanded",
    special_tokens=VALLEY_TOKENS,
)
# valley-13b-v1 on Stable-Vicuna; released as a difference to LLaMA 13B.
VALLEY_13B_V1 = replace(
    VALLEY2_7B,
    name="valley_13b_v1",
    decoder=replace(LLAMA_7B_VALLEY, width=5120, layers=40, heads=40, kv_heads=40, mlp=13824),
)
VALLEY_7B_V2 = replace(
    VALLEY2_7B,
    name="valley_7b_v2",
    connector=replace(VALLEY2_7B.connector, temporal="valley_v2"),
    decoder=LLAMA_7B_VALLEY,
)
VALLEY_7B_V3 = replace(VALLEY_7B_V2, name="valley_7b_v3", connector=replace(VALLEY2_7B.connector, temporal="valley_v3"))

VALLEY_SYSTEMS = (VALLEY2_7B, VALLEY_13B_V1, VALLEY_7B_V2, VALLEY_7B_V3)
