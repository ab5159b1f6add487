"""VideoLLaMA 2's connectors as one family (paper section 2.1 and Table 1); vidlmm.spec.connector re-exports STCSpec."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class STCSpec:
    """RegStage, sampler over time and space, RegStage, readout (VideoLLaMA2 projector.py:119-250).

    depth: residual blocks in each RegStage; 0 leaves both stages out, and the tower must be as wide as the decoder.
    downsample: window and stride of the sampler in frames, rows and columns.
    padding: zeros around the sampler's convolution, the same in all three directions whatever the window is;
        average pooling has none.
    sampler: "conv" is a convolution with a bias, "pool" the mean of the window; SiLU follows either.
    mlp_depth: linear layers of the readout, with the exact GELU between them.
    """

    depth: int = 4
    downsample: tuple[int, int, int] = (2, 2, 2)
    padding: int = 1
    sampler: Literal["conv", "pool"] = "conv"
    mlp_depth: int = 2

    def __post_init__(self) -> None:
        if self.depth < 0 or self.mlp_depth < 1 or self.padding < 0 or min(self.downsample) < 1:
            raise ValueError(f"depth and padding begin at 0, mlp_depth and downsample at 1; got {self}")
        if self.sampler == "pool" and self.padding:
            raise ValueError(f"average pooling takes no padding, got {self.padding}: give padding=0")


def stc_tokens(frames: int, side: int, spec: STCSpec) -> tuple[int, int, int]:
    """The grid of tokens (t, h, w) that a clip of `frames` pictures of side x side patches gives.

    A window that does not fill up at the end is left out.

    Raises:
        ValueError: the clip or the picture is smaller than one window.
    """
    t, h, w = (
        (size + 2 * spec.padding - window) // window + 1
        for size, window in zip((frames, side, side), spec.downsample, strict=True)
    )
    if frames < 1 or min(t, h, w) < 1:
        raise ValueError(
            f"{frames} frame(s) of {side}x{side} patches with padding {spec.padding} do not fill one window of "
            f"{spec.downsample} (frames, rows, columns): show more frames"
        )
    return t, h, w


# The connectors that releases name in `mm_projector_type`, and Table 1's row each stands for.
STC_CONNECTORS: dict[str, STCSpec] = {
    "stc_connector": STCSpec(),  # RegStage, 3D convolution
    "stc_connector_v35": STCSpec(padding=0),  # the same without padding (VideoLLaMA 2.1)
    "stp_connector": STCSpec(padding=0, sampler="pool"),  # RegStage, 3D pool
    "spatial_conv": STCSpec(depth=0, downsample=(1, 2, 2)),  # 2D convolution; the padding adds two time steps
    "spatial_pool": STCSpec(depth=0, downsample=(1, 2, 2), padding=0, sampler="pool"),  # 2D pool
}
