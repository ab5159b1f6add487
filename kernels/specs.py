"""The shapes at which the kernels work in the published systems: what tests, compilations and benchmarks share.

Widths, grids and frames are those of the systems of `vidlmm.spec`, written out here, for the kernels stand alone.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vidlmm.kernels.activations import Activation
from vidlmm.kernels.grids import Mode


@dataclass(frozen=True)
class PoolSpec:
    """A projector with pooling. every: 0, or every so-many-th frame is slow and the others have twice the stride.
    newline: the packed rows end every grid row with a newline."""

    name: str
    frames: int
    side: int
    features: int
    width: int
    mode: Mode
    stride: int
    activation: Activation = "gelu"
    every: int = 0
    newline: bool = True


@dataclass(frozen=True)
class ClipSpec:
    """Valley's reduction along time of clips of side x side patches and a class token a frame."""

    name: str
    clips: int
    frames: int
    side: int
    width: int
    variant: Literal["v1", "v2"] = "v1"


@dataclass(frozen=True)
class AttendSpec:
    """Valley's v3: every row of a frame, the class token's too, has a question a head."""

    name: str
    clips: int
    frames: int
    side: int
    width: int
    heads: int = 8


@dataclass(frozen=True)
class RowSpec:
    """Rows of a decoder's attention: key heads, query heads on each, numbers of a head. parts: devices that share the
    queries of a row by its places; otherwise they share the key heads."""

    name: str
    length: int
    heads: int
    groups: int
    depth: int = 128
    parts: int = 1


@dataclass(frozen=True)
class StcSpec:
    """VideoLLaMA 2's connector: clips of side x side patches, 2 x 2 x 2 of which make one cell of the same width."""

    name: str
    clips: int
    frames: int
    side: int
    width: int
    padding: int


@dataclass(frozen=True)
class StageSpec:
    """Pictures of side x side pixels in a stage of the same connector, before its downsampling and behind it."""

    name: str
    frames: int
    side: int
    width: int


POOLS = (
    PoolSpec("llava_video_7b", 64, 27, 1152, 3584, "average", 2),
    PoolSpec("llava_video_72b", 64, 27, 1152, 8192, "average", 2, every=3),
    PoolSpec("llava_video_7b_released", 64, 27, 1152, 3584, "bilinear", 2),
    PoolSpec("llava_onevision_05b", 32, 27, 1152, 896, "bilinear", 2, newline=False),
    PoolSpec("llavaction_7b", 16, 27, 1152, 3584, "bilinear", 2),
    # A linear projector of CLIP's grid, where the largest of a window is exact; one frame, and many.
    PoolSpec("linear_max", 1, 16, 1024, 4096, "max", 2, "none"),
    PoolSpec("long_video", 512, 27, 1152, 3584, "average", 3, "gelu_tanh", every=3),
)
TEMPORAL = (
    ClipSpec("valley2_7b", 4, 8, 16, 4096),
    ClipSpec("valley_13b_v1", 2, 32, 16, 5120),
    ClipSpec("valley_7b_v2", 4, 8, 16, 4096, variant="v2"),
)
ATTENDED = (
    AttendSpec("valley_7b_v3", 4, 8, 16, 4096),
    # As many frames as a clip of the 13B model has.
    AttendSpec("valley_13b_v3", 2, 32, 16, 5120),
)
ROWS = (
    RowSpec("llava_video_7b", 26112, 4, 7),
    RowSpec("llava_video_7b_256_frames", 51200, 4, 7, parts=2),
    RowSpec("llava_video_72b", 14336, 8, 8),
    RowSpec("llavaction_05b", 8192, 2, 7, 64),
    RowSpec("videollama2_8x7b", 6656, 8, 4),
    RowSpec("valley2_7b", 2048, 32, 1),
    # Sizes of a head that other decoders have.
    RowSpec("head_72", 4096, 4, 2, 72),
    RowSpec("head_80", 4096, 4, 2, 80),
)
STC = (
    StcSpec("videollama2_7b_released", 1, 8, 24, 4096, 1),
    # A device's clips in training; the same without padding, as published.
    StcSpec("videollama2_7b", 4, 8, 24, 4096, 0),
    StcSpec("videollama2_7b_16f_released", 2, 16, 24, 4096, 1),
    StcSpec("videollama2_72b_released", 1, 8, 24, 8192, 1),
    StcSpec("videollama2_1_7b_16f_released", 1, 16, 27, 3584, 0),
)
STAGES = (
    StageSpec("videollama2_7b_before", 8, 24, 4096),
    StageSpec("videollama2_7b_after", 20, 13, 4096),
    StageSpec("videollama2_1_7b_before", 16, 27, 3584),
    StageSpec("videollama2_72b_before", 8, 24, 8192),
)


@dataclass(frozen=True)
class SpliceSpec:
    """One sequence. media: rows of the visual tables. line: cells a side of a frame of the first one, 0 where its rows
    are no grid with newlines. vocab: rows of the text's table."""

    name: str
    places: int
    vocab: int
    width: int
    media: tuple[int, ...]
    line: int
    special: int = 2


SPLICES = (
    SpliceSpec("llava_video_7b", 12800, 152064, 3584, (64 * 169,), 13),
    SpliceSpec("llava_video_72b", 8192, 152064, 8192, (64 * 169, 64 * 36), 13),
    SpliceSpec("valley_7b_v2", 2048, 32006, 4096, (4 * 256, 4 * 8), 0),
)


def splice_plan(spec: SpliceSpec, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(table, row): text, the media, text of which some was there before, padding.

    With lines of a grid a frame is shown line by line, a newline behind each; of two tables the second has every frame
    but each third in half the lines. Otherwise both tables are shown from end to end.
    """
    rng, places = np.random.default_rng(seed), []
    text = [(0, int(row)) for row in rng.integers(0, spec.vocab, spec.places)]
    head = text[: max(spec.places // 64, 4)]
    if spec.line:
        for frame in range(spec.media[0] // spec.line**2):
            level = int(len(spec.media) > 1 and frame % 3 > 0)
            side = spec.line >> level
            for line in range(frame * side, (frame + 1) * side):
                places += [(2 + level, line * side + k) for k in range(side)] + [(1, 0)]
    else:
        places = [(2 + level, row) for level, rows in enumerate(spec.media) for row in range(rows)]
    places = (head + places + head[:3] + text[::-1])[: spec.places * 15 // 16]
    table, row = np.full(spec.places, -1), np.zeros(spec.places)
    table[: len(places)], row[: len(places)] = np.transpose(places)
    return table.astype(np.int32), row.astype(np.int32)


def cut_splice(spec: SpliceSpec) -> SpliceSpec:
    """At test size: lines stay, and an odd count of rows; frames, vocabulary and width shrink."""
    media = {13: (169,) if len(spec.media) == 1 else (338, 72)}.get(spec.line, (101, 9))
    return replace(spec, places=270, vocab=141, width=256, media=media)


def cut_pool(spec: PoolSpec) -> PoolSpec:
    """At test size: the grid and the strides stay, an odd count of frames too; widths and frames shrink."""
    frames = min(spec.frames, 3)
    return replace(spec, frames=frames, features=24, width=128 if spec.width % 1024 else 256)


def cut_clip(spec: ClipSpec) -> ClipSpec:
    """At test size: the grid stays; widths and frames shrink."""
    return replace(spec, clips=2, frames=min(spec.frames, 4), width=128)


def cut_row(spec: RowSpec) -> RowSpec:
    """At test size: heads of the same size, as many on a key head; rows of an odd length."""
    return replace(spec, length=203, heads=min(spec.heads, 2))


def cut_stc(spec: StcSpec) -> StcSpec:
    """At test size: the grid's remainder by two and the padding stay; longer clips become an odd count of frames."""
    frames, width = 4 + (spec.frames > 8), 256 if spec.width == 4096 else 384
    return replace(spec, clips=min(spec.clips, 2), frames=frames, side=4 + spec.side % 2, width=width)


def cut_stage(spec: StageSpec) -> StageSpec:
    """At test size: two pictures of an odd or an even grid."""
    return replace(spec, frames=2, side=4 + spec.side % 2, width=128 + 128 * (spec.width > 3584))
