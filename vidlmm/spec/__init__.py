"""Names into everything that defines a number: frozen dataclasses and the published systems."""

from vidlmm.spec.action import ActionSpec
from vidlmm.spec.audio import AudioSpec
from vidlmm.spec.connector import ConnectorSpec, SlowFastSpec, pooled_side
from vidlmm.spec.decoder import DecoderSpec
from vidlmm.spec.frames import FrameSpec
from vidlmm.spec.model import ModelSpec, from_dict, from_json, to_json
from vidlmm.spec.pixels import CLIP_MEAN, CLIP_STD, PixelSpec
from vidlmm.spec.prompt import PromptSpec
from vidlmm.spec.stc import STC_CONNECTORS, STCSpec, stc_tokens
from vidlmm.spec.systems import SYSTEMS
from vidlmm.spec.tables import TableSpec
from vidlmm.spec.tower import NO_TOWER, TowerSpec

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "NO_TOWER",
    "STC_CONNECTORS",
    "SYSTEMS",
    "ActionSpec",
    "AudioSpec",
    "ConnectorSpec",
    "DecoderSpec",
    "FrameSpec",
    "ModelSpec",
    "PixelSpec",
    "PromptSpec",
    "STCSpec",
    "SlowFastSpec",
    "TableSpec",
    "TowerSpec",
    "from_dict",
    "from_json",
    "pooled_side",
    "stc_tokens",
    "to_json",
]
