"""Ids with placeholders and the items they stand for into a row, the way each system writes placeholders.

index      one negative id an item                      the item's places take its place
frames     one negative id a frame of a video           Video-LLaVA's eight <image>
expanded   a special token for every place              llava-hf, Valley's <im_patch> and <vi_frame>
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from vidlmm.layout.item import Item, item_plan
from vidlmm.layout.row import PLACEHOLDERS, Row, fill, merge
from vidlmm.spec import ModelSpec


def lay_out(
    ids: Int32[np.ndarray, " n"], labels: Int32[np.ndarray, " _"] | None, items: Sequence[Item], spec: ModelSpec
) -> Row:
    """The row of one sequence; see `merge` for ids and labels.

    Ids with negative placeholders are read as "index" by systems of expanded ones too.

    Raises:
        ValueError: placeholders and items do not belong together; also what `item_plan` and `merge` raise.
    """
    plans = [item_plan(item, spec) for item in items]
    negative = np.isin(ids, PLACEHOLDERS)
    if spec.placeholders == "expanded" and not negative.any():
        return fill(ids, labels, plans, [token for _, token in spec.special_tokens])
    if spec.placeholders == "frames":
        kept = _first_of_each(negative, items)
        ids, labels = ids[kept], None if labels is None else labels[kept]
    return merge(ids, labels, plans)


def _first_of_each(negative: np.ndarray, items: Sequence[Item]) -> np.ndarray:
    """Which ids are left when each item keeps the first of its placeholders."""
    places = np.flatnonzero(negative)
    needed = [item.frames if item.kind == "video" else 1 for item in items]
    if len(places) != sum(needed):
        raise ValueError(
            f"the text has {len(places)} media placeholder(s) and {sum(needed)} are needed: one for each of "
            f"{needed} frames or pictures of the {len(items)} item(s)"
        )
    kept = np.ones(len(negative), bool)
    kept[places] = False
    kept[places[np.cumsum([0, *needed])[:-1]]] = True
    return kept
