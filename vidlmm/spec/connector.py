"""The connector: tower features into the decoder's width, and fewer of them."""

from dataclasses import dataclass
from typing import Literal

PoolMode = Literal["average", "max", "bilinear"]
Newline = Literal["grid", "frame", "one_token", "no_token"]


@dataclass(frozen=True)
class SlowFastSpec:
    """Paper notation V=(T, M, s, p): every `stride`-th frame is slow, the others are pooled
    with twice the stride; one faster token follows every frame (LLaVA-Video section 3.1)."""

    stride: int = 3


@dataclass(frozen=True)
class ConnectorSpec:
    """Projector and pooling.

    kind: "mlp2x_gelu" is Linear, exact GELU, Linear on every patch, before pooling.
    pool_stride: side of the pooling window; 1 keeps every patch.
    newline: where the learned newline row stands in a video's tokens.
    unpooled_images: pictures keep every patch (LLaVA-NeXT pools videos only); their table is the last level.
    """

    kind: Literal["mlp2x_gelu"] = "mlp2x_gelu"
    pool_mode: PoolMode = "bilinear"
    pool_stride: int = 2
    newline: Newline = "grid"
    slowfast: SlowFastSpec | None = None
    unpooled_images: bool = False

    @property
    def strides(self) -> tuple[int, ...]:
        """Pooling strides of the visual tables, one a level: p, then 2p with SlowFast, then 1 for pictures."""
        video = (self.pool_stride,) if self.slowfast is None else (self.pool_stride, 2 * self.pool_stride)
        return (*video, 1) if self.unpooled_images and 1 not in video else video


def pooled_side(side: int, mode: PoolMode, stride: int) -> int:
    """Cells a side after pooling: average and max drop an odd last row, bilinear rounds up."""
    return -(-side // stride) if mode == "bilinear" else side // stride
