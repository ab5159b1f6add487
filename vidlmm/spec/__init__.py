"""Names into everything that defines a number: frozen dataclasses and the published systems."""

from vidlmm.spec.connector import ConnectorSpec, SlowFastSpec, pooled_side
from vidlmm.spec.decoder import DecoderSpec
from vidlmm.spec.frames import FrameSpec
from vidlmm.spec.model import ModelSpec, from_dict, from_json, to_json
from vidlmm.spec.pixels import CLIP_MEAN, CLIP_STD, PixelSpec
from vidlmm.spec.prompt import PromptSpec
from vidlmm.spec.systems import SYSTEMS
from vidlmm.spec.tower import TowerSpec

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "SYSTEMS",
    "ConnectorSpec",
    "DecoderSpec",
    "FrameSpec",
    "ModelSpec",
    "PixelSpec",
    "PromptSpec",
    "SlowFastSpec",
    "TowerSpec",
    "from_dict",
    "from_json",
    "pooled_side",
    "to_json",
]
