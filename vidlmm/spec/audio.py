"""The audio tower: the filter bank of a sound into features, and their projection into the decoder's width."""

from dataclasses import dataclass

from vidlmm.spec.tower import Activation


@dataclass(frozen=True)
class AudioSpec:
    """BEATs (Chen et al., arXiv 2212.09058), its filter bank, and the projector.

    VideoLLaMA 2, branch audio_visual, model/beats/{BEATs,backbone}.py; the defaults are BEATs iter3+ AS2M.

    mel: bins of the filter bank. fbank_mean, fbank_std: it enters as (x - mean) / (2 std).
    patch: side of the square patches in filter-bank frames and bins; frames and bins past the last whole patch
        are not heard. patch_bias: their embedding has a bias.
    embed: width of an embedded patch; where it is not `width`, a linear layer follows.
    layers, width, heads, mlp, activation, norm_eps: the transformer.
    position_kernel, position_groups: of the convolution that tells places where they stand.
    buckets: rows of the relative position bias, half of them for keys behind the query; all layers share them,
        0 means no bias. max_distance: places from which on all share the last bucket.
    gated: each query weighs its bias by a GRU gate (grep).
    deep_norm: the residual weighs (2 layers)^(1/4) (DeepNorm, arXiv 2203.00555).
    gradient_decay: factor on the gradient that each layer hands down; 1 is the plain derivative.
    projector_layers: linear layers into the decoder's width with exact GELU between them: 1 for the released
        name "linear", 2 for "mlp2x_gelu"; 0 leaves the features as they are.

    Raises:
        ValueError: sizes that do not go together.
    """

    mel: int = 128
    fbank_mean: float = 15.41663
    fbank_std: float = 6.55582
    patch: int = 16
    patch_bias: bool = False
    embed: int = 512
    layers: int = 12
    width: int = 768
    heads: int = 12
    mlp: int = 3072
    activation: Activation = "gelu"
    norm_eps: float = 1e-5
    position_kernel: int = 128
    position_groups: int = 16
    buckets: int = 320
    max_distance: int = 800
    gated: bool = True
    deep_norm: bool = True
    gradient_decay: float = 0.6
    projector_layers: int = 2

    def __post_init__(self) -> None:
        for name, divisor in (("heads", self.heads), ("position_groups", self.position_groups)):
            if divisor < 1 or self.width % divisor:
                raise ValueError(f"audio.{name} is {divisor}; expected a divisor of audio.width, which is {self.width}")
        if not 1 <= self.patch <= self.mel:
            raise ValueError(f"audio.patch is {self.patch}; expected 1 to audio.mel, which is {self.mel}")
        if self.buckets and not 4 <= self.buckets < 4 * self.max_distance:
            raise ValueError(
                f"audio.buckets is {self.buckets} (expected 0, or 4 and more) and audio.max_distance "
                f"{self.max_distance} (expected more than a quarter of the buckets)"
            )
        if self.projector_layers < 0:
            raise ValueError(f"audio.projector_layers is {self.projector_layers}; expected 0 or more")

    @property
    def bands(self) -> int:
        """Patches of one time step."""
        return self.mel // self.patch

    @property
    def residual(self) -> float:
        """Factor of the stream before each norm."""
        return (2 * self.layers) ** 0.25 if self.deep_norm else 1.0

    def tokens(self, frames: int) -> int:
        """Tokens of a sound of so many filter-bank frames: time steps, each with its bands from low to high.

        The 2998 frames of 30 s give 187 x 8 = 1496.
        """
        return frames // self.patch * self.bands
