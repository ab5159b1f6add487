"""What becomes of a sound's features on the way to the decoder."""

from itertools import pairwise
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vidlmm.models.linear import linear
from vidlmm.models.norms import gelu
from vidlmm.models.params import Maker
from vidlmm.spec.audio import AudioSpec


class AudioProjector(nnx.Module):
    """Linear layers with exact GELU between them, place by place, without pooling (VideoLLaMA2, branch
    audio_visual, model/projector.py:124-138)."""

    def __init__(
        self, spec: AudioSpec, width: int, *, rngs: nnx.Rngs, dtype: Any = jnp.float32, param_dtype: Any = jnp.float32
    ):
        """`width` is the decoder's.

        Raises:
            ValueError: no layers, but features of another width than the decoder's.
        """
        if not spec.projector_layers and spec.width != width:
            raise ValueError(
                f"the audio projector has no layers, so audio.width {spec.width} must be the decoder's width {width}"
            )
        make = Maker(rngs, param_dtype)
        sizes = [spec.width] + [width] * spec.projector_layers
        self.weights = nnx.List([make.normal(pair, (None, "embed"), pair[0] ** -0.5) for pair in pairwise(sizes)])
        self.biases = nnx.List([make.zeros((width,), ("embed",)) for _ in sizes[1:]])
        self.dtype = dtype

    def __call__(self, features: Float[Array, "S N D"]) -> Float[Array, "S N W"]:
        """Every place of every sound in the decoder's width."""
        x = features.astype(self.dtype)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = linear(gelu(x) if number else x, weight[...].astype(self.dtype)) + bias[...].astype(self.dtype)
        return x
