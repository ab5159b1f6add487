"""Valley's blocks: the places of a video or a picture between the tokens that frame them.

    <im_start> P P P ... P <im_end> <vi_start> C C ... C <vi_end>

P are the patches after the module along time, C the class tokens of the frames; the four framing tokens keep their
learned embeddings. In token ids <im_patch> and <vi_frame> stand for P and C (valley/util/data_util.py,
preprocess_multimodal_multiimage; valley_model.py:197-247, 387-393). A picture is a video of one frame.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int32

from vidlmm.layout.plan import Piece, Plan, join
from vidlmm.layout.row import PLACEHOLDERS, Row, fill, merge
from vidlmm.spec import ModelSpec
from vidlmm.spec.tables import Table

PATCH, FRAME = "<im_patch>", "<vi_frame>"
FRAMING = ("<im_start>", "<im_end>", "<vi_start>", "<vi_end>")

Ids = Int32[np.ndarray, " _"]


def has_blocks(spec: ModelSpec) -> bool:
    """Whether a system writes its media as blocks."""
    return spec.connector.temporal.startswith("valley") and spec.placeholders == "expanded"


def framed(item: Plan, spec: ModelSpec) -> Plan:
    """A plan of patches and class tokens with the framing tokens around them.

    Raises:
        ValueError: the spec does not know the tokens' ids.
    """
    known = token_ids(spec)
    patches = item.table == Table.VISUAL
    start, end, frames_start, frames_end = (_token(known[name]) for name in FRAMING)
    parts = [(item.table[which], item.row[which]) for which in (patches, ~patches)]
    table, row = join([start, parts[0], end, frames_start, parts[1], frames_end])
    return replace(item, table=table, row=row)


def valley_row(ids: Ids, labels: Ids | None, items: Sequence[Plan], spec: ModelSpec) -> Row:
    """The row of one sequence in which a block, or one placeholder, stands for each item.

    The original leaves a video's frames out without a word where the number of <vi_frame> is not that of the frames,
    and shows the first video in every block of a sample; here each block belongs to its own item.

    Args:
        ids, labels: see `vidlmm.layout.merge`. items: framed plans.

    Raises:
        ValueError: blocks that are not their items', or what `merge` raises.
    """
    if np.isin(ids, PLACEHOLDERS).any() or not spec.special_tokens:
        return merge(ids, labels, items)
    known = token_ids(spec)
    patch, frame = known[PATCH], known[FRAME]
    bare = [replace(one, table=one.table[_seen(one)], row=one.row[_seen(one)]) for one in items]
    needed = [np.where(one.table == Table.VISUAL, patch, frame) for one in bare]
    found = ids[np.isin(ids, (patch, frame))]
    if found.tolist() != [token for one in needed for token in one.tolist()]:
        told = [f"{int((one == patch).sum())} {PATCH} and {int((one == frame).sum())} {FRAME}" for one in needed]
        raise ValueError(
            f"the text has {int((found == patch).sum())} {PATCH} and {int((found == frame).sum())} {FRAME}; "
            f"expected, in this order, {', then '.join(told) or 'none'}: a token for each patch and frame of an item"
        )
    return fill(ids, labels, bare, (patch, frame))


def token_ids(spec: ModelSpec) -> dict[str, int]:
    """The ids of the six tokens of a block, by text.

    Raises:
        ValueError: the spec does not know one of them.
    """
    known = dict(spec.special_tokens)
    lacking = [name for name in (PATCH, FRAME, *FRAMING) if name not in known]
    if lacking:
        raise ValueError(
            f"{spec.name} writes media as blocks of tokens, and the ids of {', '.join(lacking)} are not known; "
            f"put its tokenizer beside the weights or give special_tokens={{{lacking[0]!r}: ...}}"
        )
    return known


def _token(id: int) -> Piece:
    return np.array([Table.TEXT], np.int32), np.array([id], np.int32)


def _seen(item: Plan) -> np.ndarray:
    """The places of patches and class tokens."""
    return item.table >= Table.VISUAL
