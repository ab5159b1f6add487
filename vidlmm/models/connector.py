"""The connector: tower features into tables of rows in the decoder's width."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vidlmm.models.linear import linear
from vidlmm.models.norms import gelu
from vidlmm.models.params import Maker
from vidlmm.models.pooling import pool
from vidlmm.spec.connector import ConnectorSpec


class Connector(nnx.Module):
    """Two-layer projector (LLaVA-NeXT multimodal_projector/builder.py:41-48), spatial pooling, learned rows."""

    def __init__(
        self,
        spec: ConnectorSpec,
        features: int,
        width: int,
        *,
        rngs: nnx.Rngs,
        dtype: Any = jnp.float32,
        param_dtype: Any = jnp.float32,
    ):
        make = Maker(rngs, param_dtype)
        self.fc1 = make.normal((features, width), (None, "embed"), features**-0.5)
        self.fc1_bias = make.zeros((width,), ("embed",))
        self.fc2 = make.normal((width, width), (None, "embed"), width**-0.5)
        self.fc2_bias = make.zeros((width,), ("embed",))
        # llava_arch.py:97-109: randn / sqrt(width).
        self.newline = make.normal((width,), ("embed",), width**-0.5)
        self.faster_token = make.normal((width,), ("embed",), width**-0.5) if spec.slowfast else None
        self.spec = spec
        self.dtype = dtype

    def __call__(self, features: Float[Array, "F N D"]) -> tuple[Float[Array, "P W"], ...]:
        """One table a pooling level (`spec.strides`), each with the rows of all frames in order.

        The second linear layer runs after average and bilinear pooling instead of before it: pooling
        weights sum to one, so both orders give the same numbers and this one multiplies fewer rows.
        """
        x = self._hidden(features)
        mode = self.spec.pool_mode
        if mode == "max":
            x = self._out(x)
            levels = [pool(x, mode, stride) for stride in self.spec.strides]
        else:
            levels = [self._out(pool(x, mode, stride)) for stride in self.spec.strides]
        return tuple(level.reshape(-1, level.shape[-1]) for level in levels)

    def project(self, features: Float[Array, "F N D"]) -> Float[Array, "F N W"]:
        """Every patch in the decoder's width, without pooling."""
        return self._out(self._hidden(features))

    def special(self) -> Float[Array, "S W"]:
        """The learned rows: newline, and the faster token where the system has one."""
        rows = [self.newline[...]] + ([] if self.faster_token is None else [self.faster_token[...]])
        return jnp.stack(rows).astype(self.dtype)

    def _hidden(self, x: Float[Array, "F N D"]) -> Float[Array, "F N W"]:
        x = linear(x.astype(self.dtype), self.fc1[...].astype(self.dtype))
        return gelu(x + self.fc1_bias[...].astype(self.dtype))

    def _out(self, x: Float[Array, "F N W"]) -> Float[Array, "F N W"]:
        return linear(x, self.fc2[...].astype(self.dtype)) + self.fc2_bias[...].astype(self.dtype)
