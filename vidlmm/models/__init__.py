"""Batches into hidden states: tower, connector, decoder, the cache, and how they are joined."""

from vidlmm.models.cache import Cache
from vidlmm.models.cells import CellPair
from vidlmm.models.connector import Connector
from vidlmm.models.decoder import Decoder
from vidlmm.models.params import logical_axes
from vidlmm.models.pretrain import SiglipPair
from vidlmm.models.text_tower import TextSpec, TextTower
from vidlmm.models.tower import Tower
from vidlmm.models.video_lm import VideoLM

__all__ = [
    "Cache",
    "CellPair",
    "Connector",
    "Decoder",
    "SiglipPair",
    "TextSpec",
    "TextTower",
    "Tower",
    "VideoLM",
    "logical_axes",
]
