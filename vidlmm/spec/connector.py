"""The connector: tower features into the decoder's width, and fewer of them."""

from dataclasses import dataclass
from typing import Literal

from vidlmm.spec.stc import STCSpec

PoolMode = Literal["average", "max", "bilinear"]
Newline = Literal["grid", "frame", "one_token", "no_token"]
PatchMerge = Literal["spatial_unpad", "spatial", "flat"]
Unpadding = Literal["floor", "rounded"]
Temporal = Literal["none", "mean", "valley_v1", "valley_v2", "valley_v3"]


@dataclass(frozen=True)
class SlowFastSpec:
    """Paper notation V=(T, M, s, p): every `stride`-th frame is slow, the others are pooled
    with twice the stride; one faster token follows every frame (LLaVA-Video section 3.1)."""

    stride: int = 3


@dataclass(frozen=True)
class ConnectorSpec:
    """Projector, pooling, and what becomes of several frames.

    kind: "mlp2x_gelu" is Linear, exact GELU, Linear on every patch, before pooling; "linear" is one layer;
        "stc" is the space-time connector that `stc` describes.
    pool_stride: side of the pooling window; 1 keeps every patch.
    newline: where the learned newline row stands in a video's tokens.
    unpooled_images: pictures keep every patch (LLaVA-NeXT pools videos only); their table is the last one of frames.
    patch_merge: the tiles of such a picture: "spatial_unpad" lays them side by side, cuts the padding off and ends
        every row with the newline (a single view ends with one newline); "spatial" lays them side by side;
        "flat" shows one after the other (LLaVA-NeXT mm_patch_merge_type).
    unpadding: how the side without padding is made whole: "floor" cuts its fraction off (LLaVA-NeXT), "rounded" after
        seven decimals (transformers), which keeps 27.0000 from becoming 26.
    anyres_max: a picture of more than 1.1^2 times so many views is made smaller (anyres_max_N); 0 never.
    temporal: a module along time, which gives a table of clips. "mean" is VideoLLaMA 2's mean over frames before
        the projector, the others are Valley's, after it.
    """

    kind: Literal["mlp2x_gelu", "linear", "stc"] = "mlp2x_gelu"
    pool_mode: PoolMode = "bilinear"
    pool_stride: int = 2
    newline: Newline = "grid"
    slowfast: SlowFastSpec | None = None
    unpooled_images: bool = False
    patch_merge: PatchMerge = "spatial_unpad"
    unpadding: Unpadding = "floor"
    anyres_max: int = 0
    temporal: Temporal = "none"
    stc: STCSpec | None = None

    @property
    def strides(self) -> tuple[int, ...]:
        """Pooling strides of the frames' tables: p, then 2p with SlowFast, then 1 for pictures."""
        video = (self.pool_stride,) if self.slowfast is None else (self.pool_stride, 2 * self.pool_stride)
        return (*video, 1) if self.unpooled_images and 1 not in video else video

    @property
    def has_newline(self) -> bool:
        """Whether the system has a newline row to learn."""
        return self.newline != "no_token" or (self.unpooled_images and self.patch_merge == "spatial_unpad")

    @property
    def blends(self) -> bool:
        """Whether pictures may be made smaller, which needs a table of its own."""
        return self.unpooled_images and self.anyres_max > 0 and self.patch_merge == "spatial_unpad"


def pooled_side(side: int, mode: PoolMode, stride: int) -> int:
    """Cells a side after pooling: average and max drop an odd last row, bilinear rounds up."""
    return -(-side // stride) if mode == "bilinear" else side // stride
