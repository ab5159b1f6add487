"""The layouts of a video: where the newline stands, SlowFast, clips, Valley's patches and frame tokens.

LLaVA-NeXT llava/model/llava_arch.py:310-349 (newline positions), :198-240 (SlowFast); LLaVA-Video
section 3.1. With F frames and a pooled grid of g x g cells a video takes

    grid        every grid row of every frame is followed by a newline        F * g * (g + 1)
    frame       every frame is followed by a newline                          F * (g * g + 1)
    one_token   one newline after the last frame                              F * g * g + 1
    no_token    the cells alone                                               F * g * g

SlowFast V=(T, M, s, p), grid only: frame i is pooled with stride p where i is a multiple of s and
with 2p elsewhere, and one faster token follows every frame, the slow ones too.

Systems with a module along time show the rows of one clip (VideoLLaMA 2), and after them the class
token of each frame (Valley valley_model.py:197-247).

What action heads read (LLaVAction llava_arch.py:336-366, 507-518) stands at the very end: learned tokens of their own
behind the last newline, or that newline.
"""

from dataclasses import replace

from vidlmm.layout.plan import Piece, Plan, Special, Table, frame_cells, join, special, visual
from vidlmm.layout.shows import Shows, TableSpecs
from vidlmm.layout.valley import framed, has_blocks
from vidlmm.spec import ModelSpec

SLOW, FAST = 0, 1


def video_plan(frames: int, spec: ModelSpec) -> Plan:
    """The places of a video of `frames` frames, in order.

    Raises:
        ValueError: a model that reads text alone, no frame, a pooled grid without cells, SlowFast with another layout
            than grid, or action heads that read a newline which is not there.
    """
    if frames < 1:
        raise ValueError(f"a video needs at least 1 frame, got {frames}")
    if spec.text_only:
        raise ValueError(f"{spec.name} reads text alone; leave the media away or take a system with a tower")
    window = spec.tower.temporal
    if window and frames % window:
        raise ValueError(
            f"{spec.name} looks along time in windows of {window} frames, got {frames}; give whole windows"
        )
    if has_clips(spec):
        return _with_action(clip_plan(tuple(range(frames)), frames, spec), spec)
    tables = frame_tables(spec)
    pieces = _uniform(frames, spec, tables) if spec.connector.slowfast is None else _slowfast(frames, spec)
    return _with_action(Plan(*join(pieces), tables, Shows(frames=frames)), spec)


def clip_plan(clip: tuple[int, ...], frames: int, spec: ModelSpec) -> Plan:
    """The places of one clip of `frames` frames of its own, which `clip` shows in the order of time."""
    tables = spec.tables(clip_length=len(clip))
    pieces = [visual(0, range(tables[0].rows))]
    if len(tables) > 1 and tables[1].unit == "frame":
        pieces += [visual(1, [frame * tables[1].rows for frame in clip])]
    plan = Plan(*join(pieces), tables, Shows(frames=frames, clips=(clip,)))
    return framed(plan, spec) if has_blocks(spec) else plan


def has_clips(spec: ModelSpec) -> bool:
    """Whether a module of the system looks along time."""
    return spec.connector.stc is not None or spec.connector.temporal != "none"


def frame_tables(spec: ModelSpec) -> TableSpecs:
    """The tables of a system without clips.

    Raises:
        ValueError: a pooling level leaves nothing of the grid.
    """
    if min(spec.grids) < 1:
        raise ValueError(
            f"a grid of {spec.tower.grid} x {spec.tower.grid} patches pooled with strides "
            f"{spec.connector.strides} leaves sides {spec.grids}; choose smaller strides or larger pictures"
        )
    return spec.tables()


def _uniform(frames: int, spec: ModelSpec, tables: TableSpecs) -> list[Piece]:
    newline, rows, columns = spec.connector.newline, tables[0].rows, tables[0].columns
    if newline == "grid":
        return [frame_cells(frame, 0, columns, newlines=True) for frame in range(frames)]
    pieces: list[Piece] = []
    for frame in range(frames):
        pieces.append(visual(0, range(frame * rows, (frame + 1) * rows)))
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


def _with_action(plan: Plan, spec: ModelSpec) -> Plan:
    """The plan with the places that action heads read at its end."""
    if spec.action is None:
        return plan
    table, row = plan.table, plan.row
    if not spec.action.tokens:
        if table[-1] != Table.SPECIAL or row[-1] != Special.NEWLINE:
            raise ValueError(
                f"action heads of {spec.name} read the newline that ends a video, and with newline "
                f"{spec.connector.newline!r} none does; take another newline or learned tokens"
            )
        table, row = table[:-1], row[:-1]
    table, row = join([(table, row), *(special(Special.ACTION + k) for k in range(spec.action.places))])
    return replace(plan, table=table, row=row)
