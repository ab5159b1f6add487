"""LLaVA-Video 7B as the public script and checkpoint have it: bilinear pooling, a newline a grid row.

vidlmm train --config configs/llava_video_7b_released.py --workdir runs/llava_video_7b_released
"""

from ml_collections import ConfigDict

from vidlmm.configs import llava_video_7b


def get_config() -> ConfigDict:
    """The paper's recipe with the released pooling: 14 x 15 places a frame, 13,440 for 64 frames."""
    c = llava_video_7b.get_config()
    c.name = "llava_video_7b_released"
    c.system = "llava_video_7b_released"
    return c
