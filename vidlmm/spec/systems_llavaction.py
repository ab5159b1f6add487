"""LLaVAction (Ye et al. 2025) as values: LLaVA-Video that also names verb, noun and action of a clip.

AdaptiveMotorControlLab/LLaVAction. One learned token behind the video, three heads without bias that read it, and their
cross entropies beside the text's loss (llava_arch.py:47-50, 336-366; language_model/llava_qwen.py:63-68, 213-304). The
paper names the token and the heads; what the losses weigh stands in the code alone (`vidlmm.losses.action`).
"""

from dataclasses import replace

from vidlmm.spec.action import ActionSpec
from vidlmm.spec.connector import ConnectorSpec
from vidlmm.spec.decoder import DecoderSpec
from vidlmm.spec.frames import FrameSpec
from vidlmm.spec.model import ModelSpec
from vidlmm.spec.pixels import PixelSpec

# EPIC-KITCHENS-100 has 97 verbs and 300 nouns. No file of the release says how many verb:noun pairs it counts: 3806 is
# what public code on these annotations counts, and a checkpoint's own head goes before it.
EPIC_KITCHENS = (("verb", 97), ("noun", 300), ("action", 3806))
# From LLaVA-Video-7B: bilinear pooling and a newline a grid row. action/utils.py: midpoints of 16 parts of the window.
LLAVACTION_7B = ModelSpec(
    name="llavaction_7b",
    connector=ConnectorSpec(pool_mode="bilinear", newline="grid", unpooled_images=True, anyres_max=9),
    frames=FrameSpec(rule="midpoints", count=16, time_text="llavaction"),
    pixels=PixelSpec(tiles=6),
    action=ActionSpec(types=EPIC_KITCHENS),
)
# From LLaVA-OneVision-0.5B; training writes the newline of a grid row whatever it begins with (train.py:111).
LLAVACTION_05B = replace(
    LLAVACTION_7B,
    name="llavaction_05b",
    decoder=DecoderSpec(vocab=151936, width=896, layers=24, heads=14, kv_heads=2, mlp=4864, tied_head=True),
)

LLAVACTION_SYSTEMS = (LLAVACTION_7B, LLAVACTION_05B)
