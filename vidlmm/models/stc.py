"""VideoLLaMA 2's spatial-temporal convolution connector: the features of a clip's frames into a few tokens."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from vidlmm.kernels.stc_downsample.xla import windows
from vidlmm.models.convolutions import convolved, downsampled
from vidlmm.models.linear import linear
from vidlmm.models.norms import gelu, layer_norm
from vidlmm.models.params import Maker, layer_arrays
from vidlmm.models.remat import Remat, kept
from vidlmm.spec.stc import STCSpec, stc_tokens

# timm puts LayerNormAct2d in the place of LayerNorm2d, whose 1e-6 therefore never applies.
NORM_EPS = 1e-5


class STC(nnx.Module):
    """RegStage on every frame, a sampler over time and space, RegStage, readout (VideoLLaMA2 projector.py:119-250).

    What is done to a frame alone (`frames`) and what joins the frames of a clip (`clips`) can be called apart: a
    frame that stands in several places of clips, as a picture shown as a clip does, is then computed once.
    """

    def __init__(
        self,
        spec: STCSpec,
        features: int,
        width: int,
        *,
        rngs: nnx.Rngs,
        dtype: Any = jnp.float32,
        param_dtype: Any = jnp.float32,
        remat: Remat = "dots",
    ):
        if not spec.depth and features != width:
            raise ValueError(
                f"without RegStage blocks the tower must be as wide as the decoder, got {features} and {width}: "
                "make the widths equal or give the connector a depth"
            )
        make = Maker(rngs, param_dtype)
        # The first block brings the tower's width to the decoder's; all that follow are equal and stand in stacks.
        self.first = Blocks(features, width, None, make) if spec.depth else None
        self.before = Blocks(width, width, spec.depth - 1, make) if spec.depth > 1 else None
        window = math.prod(spec.downsample)
        conv = spec.sampler == "conv"
        self.sampler = (
            make.normal((*spec.downsample, width, width), (None,) * 4 + ("embed",), (window * width) ** -0.5)
            if conv
            else None
        )
        self.sampler_bias = make.zeros((width,), ("embed",)) if conv else None
        self.after = Blocks(width, width, spec.depth, make) if spec.depth else None
        self.readout = make.normal((spec.mlp_depth, width, width), ("layers", None, "embed"), width**-0.5)
        self.readout_bias = make.zeros((spec.mlp_depth, width), ("layers", "embed"))
        self.spec = spec
        self.dtype = dtype
        self.remat: Remat = remat

    def __call__(self, features: Float[Array, "C T N D"], length: Int[Array, " C"]) -> Float[Array, "C P W"]:
        """Tokens of clips, time step by time step and row by row: P = t*h*w of `stc_tokens`.

        `length` counts the true frames of each clip. A clip shorter than T gives the tokens that it gives alone, in
        its first rows; what stands in the rows behind means nothing.

        Raises:
            ValueError: the N patches of a frame are no square, or a clip does not fill one window.
        """
        clips, steps = features.shape[:2]
        x = self.frames(features.reshape(clips * steps, *features.shape[2:]))
        return self.clips(x.reshape(clips, steps, *x.shape[1:]), length)

    def frames(self, features: Float[Array, "F N D"]) -> Float[Array, "F N W"]:
        """The first RegStage, on each frame alone."""
        side = _side(features.shape[1])
        x = features.astype(self.dtype)
        if self.first is not None:
            x = kept(partial(_block, side), self.remat)(x, layer_arrays(self.first, self.dtype))[0]
        return self._stage(x, self.before, side)

    def clips(self, x: Float[Array, "C T N W"], length: Int[Array, " C"]) -> Float[Array, "C P W"]:
        """Sampler, second RegStage and readout on clips of what `frames` gives; see `__call__`."""
        count, steps, patches, width = x.shape
        t, h, w = stc_tokens(steps, _side(patches), self.spec)
        x = self._sample(x.astype(self.dtype), length).reshape(count * t, h * w, width)
        return self._read(self._stage(x, self.after, w).reshape(count, t * h * w, width))

    def _sample(self, x: Float[Array, "C T N D"], length: Int[Array, " C"]) -> Float[Array, "C t P D"]:
        """One output for each window of frames, rows and columns, with its SiLU."""
        if self.sampler is not None and self.sampler_bias is not None:
            weight, bias = (p[...].astype(self.dtype) for p in (self.sampler, self.sampler_bias))
            return downsampled(x, weight, bias, length, self.spec.padding)
        shown = jnp.arange(x.shape[1]) < length[:, None]
        seen = windows(jnp.where(shown[:, :, None, None], x, 0), self.spec.downsample, self.spec.padding)
        return jax.nn.silu(jnp.mean(seen, axis=-2, dtype=jnp.float32).astype(x.dtype))

    def _stage(self, x: Float[Array, "F N D"], blocks: "Blocks | None", line: int) -> Float[Array, "F N D"]:
        if blocks is None:
            return x
        return jax.lax.scan(kept(partial(_block, line), self.remat), x, layer_arrays(blocks, self.dtype))[0]

    def _read(self, x: Float[Array, "C P D"]) -> Float[Array, "C P D"]:
        weights, biases = (p[...].astype(self.dtype) for p in (self.readout, self.readout_bias))
        for layer in range(self.spec.mlp_depth):
            x = linear(gelu(x) if layer else x, weights[layer]) + biases[layer]
        return x


class Blocks(nnx.Module):
    """The parameters of equal RegNet blocks on a leading axis, or of one without that axis (layers None).

    timm's Bottleneck with its defaults: bottleneck as wide as the output, groups of one channel, squeeze-excite
    at a quarter of the input's width.
    """

    def __init__(self, features: int, width: int, layers: int | None, make: Maker):
        n, axis = ((), ()) if layers is None else ((layers,), ("layers",))
        reduced = round(0.25 * features)
        self.conv1 = make.normal((*n, features, width), (*axis, None, "embed"), features**-0.5)
        self.norm1_scale = make.ones((*n, width), (*axis, "embed"))
        self.norm1_bias = make.zeros((*n, width), (*axis, "embed"))
        self.conv2 = make.normal((*n, 3, 3, width), (*axis, None, None, "embed"), 1 / 3)
        self.norm2_scale = make.ones((*n, width), (*axis, "embed"))
        self.norm2_bias = make.zeros((*n, width), (*axis, "embed"))
        self.squeeze = make.normal((*n, width, reduced), (*axis, "embed", None), width**-0.5)
        self.squeeze_bias = make.zeros((*n, reduced), (*axis, None))
        self.excite = make.normal((*n, reduced, width), (*axis, None, "embed"), reduced**-0.5)
        self.excite_bias = make.zeros((*n, width), (*axis, "embed"))
        self.conv3 = make.normal((*n, width, width), (*axis, None, "embed"), width**-0.5)
        self.norm3_scale = make.ones((*n, width), (*axis, "embed"))
        self.norm3_bias = make.zeros((*n, width), (*axis, "embed"))
        if features != width:
            self.shortcut = make.normal((*n, features, width), (*axis, None, "embed"), features**-0.5)
            self.shortcut_norm_scale = make.ones((*n, width), (*axis, "embed"))
            self.shortcut_norm_bias = make.zeros((*n, width), (*axis, "embed"))


def _block(line: int, x: Float[Array, "F N D"], p: dict[str, Array]) -> tuple[Float[Array, "F N E"], None]:
    """conv 1x1, depthwise 3x3, squeeze-excite, conv 1x1, each convolution with its norm; then the shortcut. Pictures
    stand row by row, `line` places a row."""
    h = jax.nn.silu(_norm(linear(x, p["conv1"]), p, "norm1"))
    h = convolved(h, p["conv2"], p["norm2_scale"], p["norm2_bias"], line, NORM_EPS)
    mean = jnp.mean(h, axis=1, dtype=jnp.float32).astype(h.dtype)
    scale = jax.nn.silu(linear(mean, p["squeeze"]) + p["squeeze_bias"])
    scale = jax.nn.sigmoid(linear(scale, p["excite"]) + p["excite_bias"])
    h = _norm(linear(h * scale[:, None], p["conv3"]), p, "norm3")
    if "shortcut" in p:
        x = _norm(linear(x, p["shortcut"]), p, "shortcut_norm")
    return jax.nn.silu(h + x), None


def _norm(x: Float[Array, "F N D"], p: dict[str, Array], name: str) -> Float[Array, "F N D"]:
    return layer_norm(x, p[f"{name}_scale"], p[f"{name}_bias"], NORM_EPS)


def _side(patches: int) -> int:
    side = math.isqrt(patches)
    if side * side != patches:
        raise ValueError(f"a frame's {patches} patches are no square: leave the class token out")
    return side
