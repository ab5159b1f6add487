"""The connector: tower features into tables of rows in the decoder's width."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from vidlmm.kernels.choice import Backend
from vidlmm.kernels.project_pool.tpu import holds
from vidlmm.models.linear import linear
from vidlmm.models.low_rank import Adapted
from vidlmm.models.merge import take_in_groups
from vidlmm.models.norms import gelu, widened
from vidlmm.models.params import Maker, used
from vidlmm.models.pooling import pool
from vidlmm.models.reduced import backend_of, projected_cells
from vidlmm.models.remat import Remat
from vidlmm.models.stc import STC
from vidlmm.models.valley import FrameMean, FrameScores, FrameTransformer
from vidlmm.spec.action import ActionSpec
from vidlmm.spec.connector import ConnectorSpec
from vidlmm.spec.tables import Special

Tables = tuple[Float[Array, "_ W"], ...]
Clips = Int[Array, "C T"]


class Connector(nnx.Module):
    """Projector (LLaVA-NeXT multimodal_projector/builder.py:41-48) or space-time connector, pooling or a module
    along time, and learned rows.

    features, patches: width and number of a frame's features without the class token; without a tower both are 0, and
        nothing is projected. width: the decoder's.
    action: what heads read behind a video, learned rows of their own or its last newline
        (LLaVAction llava_arch.py:336-366).
    """

    def __init__(
        self,
        spec: ConnectorSpec,
        features: int,
        patches: int,
        width: int,
        *,
        action: ActionSpec | None = None,
        rngs: nnx.Rngs,
        dtype: Any = jnp.float32,
        param_dtype: Any = jnp.float32,
        remat: Remat = "dots",
    ):
        make = Maker(rngs, param_dtype)
        types = {"rngs": rngs, "dtype": dtype, "param_dtype": param_dtype}
        self.stc = None if spec.stc is None else STC(spec.stc, features, width, remat=remat, **types)
        first = self.stc is None and features > 0
        second = first and spec.kind == "mlp2x_gelu"
        self.fc1 = make.matrix((features, width), (None, "embed"), features**-0.5, "fc1") if first else None
        self.fc1_bias = make.zeros((width,), ("embed",)) if first else None
        self.fc2 = make.matrix((width, width), (None, "embed"), width**-0.5, "fc2") if second else None
        self.fc2_bias = make.zeros((width,), ("embed",)) if second else None
        self.temporal = _temporal(spec, patches, width, types)
        # llava_arch.py:97-109: randn / sqrt(width).
        self.newline = make.normal((width,), ("embed",), width**-0.5) if spec.has_newline else None
        self.faster_token = make.normal((width,), ("embed",), width**-0.5) if spec.slowfast else None
        self.action_tokens = (
            make.normal((action.tokens, width), (None, "embed"), width**-0.5) if action and action.tokens else None
        )
        self.action = action
        self.spec = spec
        self.width = width
        self.dtype = dtype

    def __call__(self, features: Float[Array, "F N D"], clips: Clips | None = None, groups: int = 1) -> Tables:
        """The tables of frames and clips, in the order of `ModelSpec.tables`.

        Args:
            features: of all frames, the class token first where the tower keeps it.
            clips: frame numbers of each clip, -1 behind its end; systems without clips need none.
            groups: equal parts of the frames and of the clips, whose numbers count inside their own part.
        """
        if self.stc is not None or self.spec.temporal != "none":
            if clips is not None and clips.size:
                return self._clip_tables(features, clips, groups)
            empty = jnp.zeros((0, self.width), self.dtype)
            return (empty,) if self.temporal is None else (empty, empty)
        return tuple(level.reshape(-1, self.width) for level in self._levels(features))

    def project(self, features: Float[Array, "F N D"]) -> Float[Array, "F N W"]:
        """Every patch in the decoder's width, without pooling."""
        return self._out(self._hidden(features))

    def special(self) -> Float[Array, "S W"]:
        """The learned rows where `Special` has them; zeros for those that the system lacks."""
        none = jnp.zeros((self.width,), self.dtype)
        rows = [none if row is None else row[...].astype(self.dtype) for row in (self.newline, self.faster_token)]
        found = jnp.stack(rows)
        if self.action is None:
            return found
        if self.action_tokens is None:
            return jnp.concatenate([found, found[Special.NEWLINE : Special.NEWLINE + 1]])
        return jnp.concatenate([found[: Special.ACTION], self.action_tokens[...].astype(self.dtype)])

    def _levels(self, features: Float[Array, "F N D"]) -> list[Float[Array, "F _ W"]]:
        """One table a pooling stride.

        The second linear layer runs after average and bilinear pooling instead of before it: pooling
        weights sum to one, so both orders give the same numbers and this one multiplies fewer rows.
        """
        mode, strides = self.spec.pool_mode, self.spec.strides
        backend = self._kernel(features)
        if backend != "xla":
            return [self._out(self._cells(features, stride, backend)) for stride in strides]
        x = self._hidden(features)
        if mode == "max":
            x = self._out(x)
            return [pool(x, mode, stride) for stride in strides]
        return [self._out(pool(x, mode, stride)) for stride in strides]

    def _kernel(self, features: Float[Array, "F N D"]) -> Backend:
        """What pools inside the projector. In plain JAX stay a hidden layer that a table of every patch needs anyway,
        that adapters add to, or of which the kernel does not hold a frame; and "max" before a second layer, which does
        not commute with it."""
        fits = (self.spec.pool_mode != "max" or self.fc2 is None) and 1 not in self.spec.strides
        plain = self.fc1 is not None and not isinstance(used(self, "fc1", self.dtype), Adapted)
        return backend_of("project_pool") if fits and plain and holds(features, self.width) else "xla"

    def _cells(self, features: Float[Array, "F N D"], stride: int, backend: Backend) -> Float[Array, "F M W"]:
        """Pooled cells before the second layer, without the hidden layer of every patch."""
        assert self.fc1_bias is not None
        weight, bias = used(self, "fc1", self.dtype), self.fc1_bias[...].astype(self.dtype)
        activation = "none" if self.fc2 is None else "gelu"
        x = features.astype(self.dtype)
        return projected_cells(x, weight, bias, self.spec.pool_mode, stride, activation, backend)

    def _clip_tables(self, features: Float[Array, "F N D"], clips: Clips, groups: int) -> Tables:
        length = jnp.sum(clips >= 0, axis=1)
        at = jnp.maximum(clips, 0)
        if self.stc is not None:
            seen = take_in_groups(self.stc.frames(features), at, groups)
            return (self.stc.clips(seen, length).reshape(-1, self.width),)
        if self.temporal is None:
            # VideoLLaMA 2 takes the mean of the raw features (videollama2_arch.py:145-146).
            there = (clips >= 0)[:, :, None, None]
            total = jnp.sum(widened(jnp.where(there, take_in_groups(features, at, groups), 0)), axis=1)
            mean = total / jnp.maximum(length, 1)[:, None, None]
            return (self.project(mean.astype(features.dtype)).reshape(-1, self.width),)
        rows = self.project(features)
        return self.temporal(take_in_groups(rows, at, groups), length).reshape(-1, self.width), rows[:, 0]

    def _hidden(self, x: Float[Array, "F N D"]) -> Float[Array, "F N W"]:
        if self.fc1 is None or self.fc1_bias is None:
            raise ValueError(f"a connector of kind {self.spec.kind!r} has no projector of single patches")
        x = linear(x.astype(self.dtype), used(self, "fc1", self.dtype)) + self.fc1_bias[...].astype(self.dtype)
        return x if self.fc2 is None else gelu(x)

    def _out(self, x: Float[Array, "F N W"]) -> Float[Array, "F N W"]:
        if self.fc2 is None or self.fc2_bias is None:
            return x
        return linear(x, used(self, "fc2", self.dtype)) + self.fc2_bias[...].astype(self.dtype)


def _temporal(
    spec: ConnectorSpec, patches: int, width: int, types: dict[str, Any]
) -> FrameMean | FrameScores | FrameTransformer | None:
    """Valley's module along time."""
    if spec.temporal == "valley_v1":
        return FrameMean()
    if spec.temporal == "valley_v2":
        return FrameScores(width, patches, **types)
    return FrameTransformer(width, **types) if spec.temporal == "valley_v3" else None
