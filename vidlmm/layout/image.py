"""The layout of a single picture.

LLaVA-NeXT does not pool pictures: a single view shows all its patches and one newline after them
(llava/model/llava_arch.py:407-412). Specs that say so (`ConnectorSpec.unpooled_images`) have a visual
table of stride 1. Other specs show a picture as a video of one frame.
"""

from vidlmm.layout.plan import Plan, Special, frame_cells, join, special
from vidlmm.layout.video import level_cells, video_plan
from vidlmm.spec import ModelSpec


def image_plan(spec: ModelSpec) -> Plan:
    """The places of one picture, which brings one frame into the buffer.

    Raises:
        ValueError: see `video_plan`.
    """
    if not spec.connector.unpooled_images:
        return video_plan(1, spec)
    level = spec.connector.strides.index(1)
    pieces = [frame_cells(0, level, spec.grids[level], newlines=False)]
    if spec.connector.newline != "no_token":
        pieces.append(special(Special.NEWLINE))
    table, row = join(pieces)
    return Plan(table, row, frames=1, cells=level_cells(spec))
