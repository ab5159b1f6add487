"""How Video-LLaVA writes media: a placeholder a frame in its own code, a token a place in transformers' port.

    original        -200 -200 ... -200      eight for a video, each takes all rows of its frame; one for a picture
    transformers    32001 32001 ... 32001   8 x 257 for a video; 256 times 32000 for a picture

Video-LLaVA/videollava/model/llava_arch.py:168-235; transformers models/video_llava/processing_video_llava.py.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from vidlmm.layout.plan import Plan
from vidlmm.layout.row import PLACEHOLDERS, VIDEO, Row, fill, merge
from vidlmm.spec import ModelSpec

Ids = Int32[np.ndarray, " _"]


def frames_row(ids: Ids, labels: Ids | None, items: Sequence[Plan], spec: ModelSpec) -> Row:
    """The row of one sequence with one placeholder for each frame of a video; they need not stand side by side.

    Ids that write a video as one VIDEO placeholder are read so.

    Args:
        ids, labels, items: see `vidlmm.layout.merge`.

    Raises:
        ValueError: more or fewer placeholders than frames and pictures, or what `merge` raises.
    """
    if (ids == VIDEO).any():
        return merge(ids, labels, items)
    places = np.isin(ids, PLACEHOLDERS)
    needed = [[spec.tower.tokens] * item.shows.frames + [len(item)] * item.shows.pictures for item in items]
    rows = [rows for one in needed for rows in one]
    if int(places.sum()) != len(rows):
        raise ValueError(
            f"the text has {int(places.sum())} media placeholder(s) and the {len(items)} item(s) take "
            f"{[len(one) for one in needed]}; write one for each frame of a video and one for each picture"
        )
    times = np.ones(len(ids), np.int64)
    times[places] = rows
    return fill(np.repeat(ids, times), None if labels is None else np.repeat(labels, times), items, PLACEHOLDERS)


def tokens_row(
    ids: Ids,
    labels: Ids | None,
    items: Sequence[Plan],
    kinds: Sequence[str],
    spec: ModelSpec,
) -> Row:
    """The row of one sequence with a token for every place of its media, of the item's own kind.

    Args:
        ids, labels, items: see `vidlmm.layout.merge`. kinds: "image" or "video" for each item.

    Raises:
        ValueError: tokens that are not the items', or what `merge` raises.
    """
    known = dict(spec.special_tokens)
    named = [f"<{kind}>" for kind in kinds]
    needed = [known[name] for item, name in zip(items, named, strict=True) for _ in range(len(item))]
    found = ids[np.isin(ids, list(known.values()))]
    if found.tolist() != needed:
        held = ", ".join(f"{int((found == token).sum())} {name}" for name, token in known.items())
        each = ", then ".join(f"{len(item)} {name}" for item, name in zip(items, named, strict=True)) or "none"
        raise ValueError(f"the text has {held}; expected, in this order, {each}: one token for each place of an item")
    return fill(ids, labels, items, list(known.values()))
