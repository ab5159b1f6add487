"""The vision tower: a picture into a grid of features."""

from dataclasses import dataclass
from typing import Literal

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "silu", "relu"]


@dataclass(frozen=True)
class TowerSpec:
    """A vision transformer that is run for its patch features.

    layers counts the layers that are run: the select layer is already applied
    (LLaVA-Video runs 26 of SigLIP's 27 layers and returns the raw output of the last).
    patch_bias: the patch embedding has a bias (SigLIP; CLIP has none).
    select: "patch" leaves the class token out, "all" keeps it as row 0.
    temporal: frames in a window of temporal attention (LanguageBind's video tower), 0 for none.
    """

    image_size: int = 384
    patch_size: int = 14
    width: int = 1152
    layers: int = 26
    heads: int = 16
    mlp: int = 4304
    activation: Activation = "gelu_tanh"
    norm_eps: float = 1e-6
    class_token: bool = False
    pre_norm: bool = False
    patch_bias: bool = True
    select: Literal["patch", "all"] = "patch"
    temporal: int = 0

    @property
    def grid(self) -> int:
        """Patches a side; pixels beyond the last whole patch are not looked at."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """Rows that a frame gives."""
        return self.grid**2 + int(self.class_token and self.select == "all")


NO_TOWER = TowerSpec(image_size=0, patch_size=1, width=0, layers=0, heads=1, mlp=0)
"""The tower of a model that reads text alone: without layers, so that there is none."""


# openai/clip-vit-large-patch14, whole; the systems leave out its last layer.
CLIP_L14 = TowerSpec(
    image_size=224,
    width=1024,
    layers=24,
    heads=16,
    mlp=4096,
    activation="quick_gelu",
    norm_eps=1e-5,
    class_token=True,
    pre_norm=True,
    patch_bias=False,
)
