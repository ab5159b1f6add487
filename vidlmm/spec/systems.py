"""The published systems as values. Where paper and release differ, both stand here."""

from vidlmm.spec.connector import ConnectorSpec, SlowFastSpec
from vidlmm.spec.decoder import DecoderSpec
from vidlmm.spec.frames import FrameSpec
from vidlmm.spec.model import ModelSpec
from vidlmm.spec.pixels import PixelSpec
from vidlmm.spec.prompt import PromptSpec
from vidlmm.spec.systems_hound import HOUND_SYSTEMS
from vidlmm.spec.systems_llavaction import LLAVACTION_SYSTEMS
from vidlmm.spec.systems_valley import VALLEY_SYSTEMS
from vidlmm.spec.systems_videollama2 import VIDEOLLAMA2_SYSTEMS
from vidlmm.spec.tower import TowerSpec

SIGLIP_SO400M = TowerSpec()

QWEN2_05B = DecoderSpec(vocab=151936, width=896, layers=24, heads=14, kv_heads=2, mlp=4864, tied_head=True)
QWEN2_7B = DecoderSpec()
QWEN2_72B = DecoderSpec(width=8192, layers=80, heads=64, kv_heads=8, mlp=29568)

# Paper section 4.1: V=(64, 729, 1, 2), average pooling, no SlowFast for the 7B.
LLAVA_VIDEO_7B = ModelSpec(
    name="llava_video_7b",
    tower=SIGLIP_SO400M,
    connector=ConnectorSpec(pool_mode="average", newline="grid"),
    decoder=QWEN2_7B,
    frames=FrameSpec(count=64),
)
# Paper section 4.1: V=(64, 729, 3, 2).
LLAVA_VIDEO_72B = ModelSpec(
    name="llava_video_72b",
    tower=SIGLIP_SO400M,
    connector=ConnectorSpec(pool_mode="average", newline="grid", slowfast=SlowFastSpec(stride=3)),
    decoder=QWEN2_72B,
    frames=FrameSpec(count=64),
)
# The public scripts and checkpoints: bilinear pooling, a newline a grid row, no SlowFast; pictures are not pooled and
# shown in up to 6 x 6 tiles, of which nine views' worth of tokens are kept (anyres_max_9, spatial_unpad).
RELEASED_PIXELS = PixelSpec(tiles=6)
VIDEO_RELEASED = ConnectorSpec(pool_mode="bilinear", newline="grid", unpooled_images=True, anyres_max=9)
ONEVISION_RELEASED = ConnectorSpec(pool_mode="bilinear", newline="one_token", unpooled_images=True, anyres_max=9)

LLAVA_VIDEO_7B_RELEASED = ModelSpec(
    name="llava_video_7b_released",
    tower=SIGLIP_SO400M,
    connector=VIDEO_RELEASED,
    decoder=QWEN2_7B,
    frames=FrameSpec(count=64),
    pixels=RELEASED_PIXELS,
)
# scripts/video/train/SO400M_Qwen2_72B_ov_to_video_am9.sh: 32 frames.
LLAVA_VIDEO_72B_RELEASED = ModelSpec(
    name="llava_video_72b_released",
    tower=SIGLIP_SO400M,
    connector=VIDEO_RELEASED,
    decoder=QWEN2_72B,
    frames=FrameSpec(count=32),
    pixels=RELEASED_PIXELS,
)
# LLaVA-OneVision: all frames in a row and one newline at the end; scripts/train/finetune_ov.sh: 32 frames.
LLAVA_ONEVISION = {
    size: ModelSpec(
        name=f"llava_onevision_{size}",
        tower=SIGLIP_SO400M,
        connector=ONEVISION_RELEASED,
        decoder=decoder,
        frames=FrameSpec(count=32, time_text="none"),
        pixels=RELEASED_PIXELS,
    )
    for size, decoder in (("05b", QWEN2_05B), ("7b", QWEN2_7B), ("72b", QWEN2_72B))
}
# The compact model of the quickstart: LLaVA-Video's walk at laptop size.
QUICKSTART = ModelSpec(
    name="quickstart",
    tower=TowerSpec(image_size=96, patch_size=12, width=128, layers=4, heads=4, mlp=512),
    connector=ConnectorSpec(pool_mode="average", pool_stride=2, newline="grid"),
    decoder=DecoderSpec(
        vocab=704, width=128, layers=6, heads=4, kv_heads=2, mlp=384, rope_base=1e3, tied_head=True, max_length=2048
    ),
    frames=FrameSpec(count=8, time_text="none"),
    pixels=PixelSpec(size=96),
    prompt=PromptSpec(template="qwen_answer"),
)

SYSTEMS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        LLAVA_VIDEO_7B,
        LLAVA_VIDEO_72B,
        LLAVA_VIDEO_7B_RELEASED,
        LLAVA_VIDEO_72B_RELEASED,
        *LLAVA_ONEVISION.values(),
        *VIDEOLLAMA2_SYSTEMS,
        *VALLEY_SYSTEMS,
        *HOUND_SYSTEMS,
        *LLAVACTION_SYSTEMS,
        QUICKSTART,
    )
}
