"""The layouts of a video: where the newline stands, and SlowFast.

LLaVA-NeXT llava/model/llava_arch.py:310-349 (newline positions), :198-240 (SlowFast); LLaVA-Video
section 3.1. With F frames and a pooled grid of g x g cells a video takes

    grid        every grid row of every frame is followed by a newline        F * g * (g + 1)
    frame       every frame is followed by a newline                          F * (g * g + 1)
    one_token   one newline after the last frame                              F * g * g + 1
    no_token    the cells alone                                               F * g * g

SlowFast V=(T, M, s, p), grid only: frame i is pooled with stride p where i is a multiple of s and
with 2p elsewhere, and one faster token follows every frame, the slow ones too.
"""

from vidlmm.layout.plan import Piece, Plan, Special, frame_cells, join, special
from vidlmm.spec import ModelSpec

SLOW, FAST = 0, 1


def video_plan(frames: int, spec: ModelSpec) -> Plan:
    """The places of a video of `frames` frames, in order.

    Raises:
        ValueError: no frame, a pooled grid without cells, or SlowFast with another layout than grid.
    """
    if frames < 1:
        raise ValueError(f"a video needs at least 1 frame, got {frames}")
    cells = level_cells(spec)
    if spec.connector.slowfast is None:
        table, row = join(_uniform(frames, spec))
    else:
        table, row = join(_slowfast(frames, spec))
    return Plan(table, row, frames, cells)


def level_cells(spec: ModelSpec) -> tuple[int, ...]:
    """Visual tokens that a frame has on each pooling level.

    Raises:
        ValueError: a level pools the whole grid away.
    """
    if min(spec.grids) < 1:
        raise ValueError(
            f"a grid of {spec.tower.grid} x {spec.tower.grid} patches pooled with strides "
            f"{spec.connector.strides} leaves sides {spec.grids}; choose smaller strides or larger pictures"
        )
    return tuple(side * side for side in spec.grids)


def _uniform(frames: int, spec: ModelSpec) -> list[Piece]:
    newline = spec.connector.newline
    pieces: list[Piece] = []
    for frame in range(frames):
        pieces.append(frame_cells(frame, 0, spec.grids[0], newlines=newline == "grid"))
        if newline == "frame" or (newline == "one_token" and frame == frames - 1):
            pieces.append(special(Special.NEWLINE))
    return pieces


def _slowfast(frames: int, spec: ModelSpec) -> list[Piece]:
    slowfast = spec.connector.slowfast
    if slowfast is None or spec.connector.newline != "grid":
        raise ValueError(f"SlowFast is defined for newline 'grid' only, got {spec.connector.newline!r}")
    if slowfast.stride < 1:
        raise ValueError(f"the SlowFast stride counts frames and is at least 1, got {slowfast.stride}")
    pieces: list[Piece] = []
    for frame in range(frames):
        level = SLOW if frame % slowfast.stride == 0 else FAST
        pieces += [frame_cells(frame, level, spec.grids[level], newlines=True), special(Special.FASTER)]
    return pieces
