"""Valley's temporal modules: the projected patches of a clip's frames into one set of patches a clip.

The three of the released code (Luo et al. 2023, section 4.1; valley/model/valley_model.py:104-133) run on features
that are already in the language model's width, with the class token in row 0 of every frame. That row they leave
alone: it stands in the sequence frame by frame. A clip that is shorter than the buffer gives what it gives alone.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Float32, Int

from vidlmm.models.linear import linear
from vidlmm.models.norms import layer_norm
from vidlmm.models.params import Maker
from vidlmm.models.reduced import attended_over_time, pooled_over_time

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

    Only the last step is read, so only its query, norms and MLP are computed, and no keys and values of all steps. A
    head's score q . (W_k z + b_k) is (W_k^T q) . z and a number that is the same for all steps and so cancels in the
    softmax; its sum of values w_t (W_v z_t + b_v), the weights of which add up to one, is W_v (sum of w_t z_t) + b_v.
    So b_k counts for nothing. `position` is a table of sinusoids that no stage trains.
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
        encoded, mean = self.encode(x.astype(self.dtype), length)
        return (encoded + mean)[:, 1:]

    def encode(
        self, x: Float[Array, "C T N H"], length: Int[Array, " C"]
    ) -> tuple[Float[Array, "C N H"], Float[Array, "C N H"]]:
        """What the layer gives at each clip's last frame, and the mean over frames; of each row of a frame by itself,
        the class token's too."""
        steps, width = x.shape[1], x.shape[3]
        if steps > POSITIONS:
            raise ValueError(f"got clips of {steps} frames, the position table has {POSITIONS} rows: sample fewer")
        position = jax.lax.stop_gradient(self._weight("position"))[:steps]
        weight, bias, depth = self._weight("qkv"), self._weight("qkv_bias"), width // HEADS
        w_q, w_k, w_v = jnp.split(weight, 3, axis=2)
        last = last_frames(x, length) + position[jnp.maximum(length - 1, 0)][:, None]
        q = (jnp.einsum("cnh,hed->cned", last, w_q) + bias[:, :depth]) * depth**-0.5
        asked = jnp.einsum("cned,hed->cenh", q, w_k)
        found, mean = attended_over_time(x, length, position, asked)
        value = jnp.einsum("cenh,hed->cned", found, w_v) + bias[:, 2 * depth :]
        found = linear(value.reshape(last.shape), self._weight("out").reshape(width, width)) + self._weight("out_bias")
        a = layer_norm(last + found, self.norm1_scale[...], self.norm1_bias[...], NORM_EPS)
        h = jax.nn.relu(linear(a, self._weight("up")) + self._weight("up_bias"))
        h = linear(h, self._weight("down")) + self._weight("down_bias")
        return layer_norm(a + h, self.norm2_scale[...], self.norm2_bias[...], NORM_EPS), mean

    def _weight(self, name: str) -> Array:
        return getattr(self, name)[...].astype(self.dtype)


@jax.custom_vjp
def last_frames(x: Float[Array, "C T N H"], length: Int[Array, " C"]) -> Float[Array, "C N H"]:
    """The last frame of each clip; zeros for a clip of none, whatever stands there."""
    at = jnp.maximum(length - 1, 0)[:, None, None, None]
    return jnp.where(length[:, None, None] > 0, jnp.take_along_axis(x, at, axis=1)[:, 0], 0)


def _last_frames_forward(x: Array, length: Array) -> tuple[Array, Array]:
    return last_frames(x, length), jnp.arange(x.shape[1]) == length[:, None] - 1


def _last_frames_backward(here: Array, pull: Array) -> tuple[Array, None]:
    # The gather's own gradient is a scatter into an array of its own; this is read while it is added.
    return jnp.where(here[:, :, None, None], pull[:, None], 0), None


last_frames.defvjp(_last_frames_forward, _last_frames_backward)


def sinusoids(rows: int, width: int) -> Float32[Array, "rows width"]:
    """Column 2i of row k is sin(k / 10000^(2i / width)), column 2i + 1 its cosine (valley_model.py:104-111)."""
    angle = jnp.arange(rows)[:, None] / 10000.0 ** (jnp.arange(0, width, 2) / width)
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1).reshape(rows, -1)[:, :width].astype(jnp.float32)
