"""Valley's temporal modules: the projected patches of a clip's frames into one set of patches a clip.

The three of the released code (Luo et al. 2023, section 4.1; valley/model/valley_model.py:104-133) run on features
that are already in the language model's width, with the class token in row 0 of every frame. That row they leave
alone: it stands in the sequence frame by frame. A clip that is shorter than the buffer gives what it gives alone.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int

from vidlmm.models.attention import attend
from vidlmm.models.linear import linear
from vidlmm.models.norms import layer_norm
from vidlmm.models.params import Maker
from vidlmm.models.reduced import pooled_over_time

# Constants of the released code, whatever the width: torch's own defaults but for the heads (valley_model.py:59-66).
HEADS = 8
MLP = 2048
NORM_EPS = 1e-5
POSITIONS = 2048


class FrameMean(nnx.Module):
    """v1: the mean of each patch over the frames; no parameters."""

    def __call__(self, x: Float[Array, "C T M H"], length: Int[Array, " C"]) -> Float[Array, "C P H"]:
        """x: features of T frames a clip, M = 1 + P rows each, the class token first.
        length: true frames of each clip; frames after them are not looked at."""
        return pooled_over_time(x, length)


class FrameScores(nnx.Module):
    """v2: a weighted sum of frames. One linear layer scores a frame by all its patches together;
    the softmax of the scores over the clip's frames are the weights."""

    def __init__(
        self,
        width: int,
        patches: int,
        *,
        rngs: nnx.Rngs,
        dtype: Any = jnp.float32,
        param_dtype: Any = jnp.float32,
    ):
        make = Maker(rngs, param_dtype)
        self.weight = make.normal((patches, width), (None, "embed"), (patches * width) ** -0.5)
        self.bias = make.zeros((1,), (None,))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "C T M H"], length: Int[Array, " C"]) -> Float[Array, "C P H"]:
        """See `FrameMean`.

        Raises:
            ValueError: frames of another number of patches than the layer scores.
        """
        return pooled_over_time(x.astype(self.dtype), length, self.weight[...], self.bias[...])


class FrameTransformer(nnx.Module):
    """v3: one post-norm transformer layer along time for every patch, of which the clip's last step counts,
    plus the mean over the frames.

    z = x + position;  a = LN1(z + A(z));  out = LN2(a + MLP(a)) at the last step, + mean(x)

    Only the last step is read, so only its query, norms and MLP are computed; keys and values come from all steps.
    `position` is a table of sinusoids that no stage trains.
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs, dtype: Any = jnp.float32, param_dtype: Any = jnp.float32):
        if width % HEADS:
            raise ValueError(f"width {width} is not a multiple of {HEADS}, the heads of Valley's temporal transformer")
        make = Maker(rngs, param_dtype)
        depth = width // HEADS
        table = sinusoids(POSITIONS, width).astype(param_dtype)
        self.position = nnx.Param(table, logical_axes=(None, "embed"), constant=True)
        # Query, key and value of a head stand side by side, as in `Encoder`.
        self.qkv = make.normal((width, HEADS, 3 * depth), ("embed", "heads", None), width**-0.5)
        self.qkv_bias = make.zeros((HEADS, 3 * depth), ("heads", None))
        self.out = make.normal((HEADS, depth, width), ("heads", None, "embed"), width**-0.5)
        self.out_bias = make.zeros((width,), ("embed",))
        self.norm1_scale = make.ones((width,), ("embed",))
        self.norm1_bias = make.zeros((width,), ("embed",))
        self.up = make.normal((width, MLP), ("embed", "mlp"), width**-0.5)
        self.up_bias = make.zeros((MLP,), ("mlp",))
        self.down = make.normal((MLP, width), ("mlp", "embed"), MLP**-0.5)
        self.down_bias = make.zeros((width,), ("embed",))
        self.norm2_scale = make.ones((width,), ("embed",))
        self.norm2_bias = make.zeros((width,), ("embed",))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "C T M H"], length: Int[Array, " C"]) -> Float[Array, "C P H"]:
        """See `FrameMean`.

        Raises:
            ValueError: more frames than the table has positions.
        """
        there = within(length, x.shape[1])
        seen = patches(x.astype(self.dtype), there)
        return self.last_step(seen, length) + pooled_over_time(x.astype(self.dtype), length)

    def last_step(self, x: Float[Array, "C T P H"], length: Int[Array, " C"]) -> Float[Array, "C P H"]:
        """What the layer gives at each clip's last frame."""
        clips, steps, cells, width = x.shape
        if steps > POSITIONS:
            raise ValueError(f"got clips of {steps} frames, the position table has {POSITIONS} rows: sample fewer")
        z = x + jax.lax.stop_gradient(self._weight("position"))[:steps, None]
        last = jnp.take_along_axis(z, jnp.maximum(length - 1, 0)[:, None, None, None], axis=1)[:, 0]
        weight, bias, depth = self._weight("qkv"), self._weight("qkv_bias"), width // HEADS
        q = linear(last, weight[..., :depth]) + bias[:, :depth]
        kv = linear(z, weight[..., depth:]) + bias[:, depth:]
        k, v = jnp.split(kv.transpose(0, 2, 3, 1, 4).reshape(clips * cells, HEADS, steps, -1), 2, axis=-1)
        mask = jnp.repeat(within(length, steps), cells, axis=0)[:, None]
        found = attend(q.reshape(clips * cells, HEADS, 1, 1, -1), k, v, mask).reshape(clips, cells, width)
        found = linear(found, self._weight("out").reshape(width, width)) + self._weight("out_bias")
        a = layer_norm(last + found, self.norm1_scale[...], self.norm1_bias[...], NORM_EPS)
        h = jax.nn.relu(linear(a, self._weight("up")) + self._weight("up_bias"))
        h = linear(h, self._weight("down")) + self._weight("down_bias")
        return layer_norm(a + h, self.norm2_scale[...], self.norm2_bias[...], NORM_EPS)

    def _weight(self, name: str) -> Array:
        return getattr(self, name)[...].astype(self.dtype)


def within(length: Int[Array, " C"], steps: int) -> Bool[Array, "C T"]:
    """Which of `steps` frames belong to each clip."""
    return jnp.arange(steps) < length[:, None]


def patches(x: Float[Array, "C T M H"], there: Bool[Array, "C T"]) -> Float[Array, "C T P H"]:
    """The rows after the class token; zeros after a clip's end, whatever stands there."""
    return jnp.where(there[:, :, None, None], x[:, :, 1:], 0)


def sinusoids(rows: int, width: int) -> Float32[Array, "rows width"]:
    """Column 2i of row k is sin(k / 10000^(2i / width)), column 2i + 1 its cosine (valley_model.py:104-111)."""
    angle = jnp.arange(rows)[:, None] / 10000.0 ** (jnp.arange(0, width, 2) / width)
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1).reshape(rows, -1)[:, :width].astype(jnp.float32)
