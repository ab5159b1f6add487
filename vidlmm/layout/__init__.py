"""What is shown (frames, grids, text pieces) into int32 index plans of the merged sequence."""

from vidlmm.layout.batch import BATCH_FIELDS, Batch, assemble, pack
from vidlmm.layout.drawing import draw
from vidlmm.layout.image import image_plan
from vidlmm.layout.plan import Plan, Special, Table
from vidlmm.layout.row import Row, merge, tree, truncate
from vidlmm.layout.video import video_plan

__all__ = [
    "BATCH_FIELDS",
    "Batch",
    "Plan",
    "Row",
    "Special",
    "Table",
    "assemble",
    "draw",
    "image_plan",
    "merge",
    "pack",
    "tree",
    "truncate",
    "video_plan",
]
