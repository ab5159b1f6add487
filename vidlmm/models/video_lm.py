"""The whole model: frames and token plans in, hidden states and logits out."""

from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Float32, UInt8

from vidlmm.models.connector import Connector
from vidlmm.models.decoder import Decoder
from vidlmm.models.merge import gather_rows
from vidlmm.models.tower import Tower
from vidlmm.spec.model import ModelSpec

Tables = tuple[Float[Array, "P D"], ...]


@runtime_checkable
class Inputs(Protocol):
    """What the model reads of a batch (vidlmm.layout.batch.Batch has these and the labels).

    frames: uint8 [F, H, W, 3], or normalised floats; one flat list for all rows.
    table, row, position, segment, branch: int32 [B, L].
    """

    @property
    def frames(self) -> Any: ...
    @property
    def table(self) -> Any: ...
    @property
    def row(self) -> Any: ...
    @property
    def position(self) -> Any: ...
    @property
    def segment(self) -> Any: ...
    @property
    def branch(self) -> Any: ...


class VideoLM(nnx.Module):
    """A video language model of any published system that a ModelSpec describes.

    dtype is what is computed in (norms, softmax and logits stay in float32), param_dtype what is stored.
    remat recomputes each layer in the backward pass: less memory, about a third more work.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        rngs: nnx.Rngs,
        dtype: Any = jnp.float32,
        param_dtype: Any = jnp.float32,
        remat: bool = False,
    ):
        self.tower = Tower(spec.tower, spec.pixels, rngs=rngs, dtype=dtype, param_dtype=param_dtype, remat=remat)
        self.connector = Connector(
            spec.connector, spec.tower.width, spec.decoder.width, rngs=rngs, dtype=dtype, param_dtype=param_dtype
        )
        self.decoder = Decoder(spec.decoder, rngs=rngs, dtype=dtype, param_dtype=param_dtype, remat=remat)
        self.spec = spec
        self.dtype = dtype

    def encode(self, frames: UInt8[Array, "F H W 3"] | Float[Array, "F H W 3"]) -> Tables:
        """Visual tables, one a pooling level: rows frame*cells + cell of all frames. No frames, empty tables."""
        if frames.shape[0] == 0:
            empty = jnp.zeros((0, self.spec.decoder.width), self.dtype)
            return tuple(empty for _ in self.spec.connector.strides)
        return self.connector(self.tower(frames))

    def embed(self, batch: Inputs, visual: Tables | None = None) -> Float[Array, "B L D"]:
        """The merged input of the decoder. `visual`: tables in the place of `encode(batch.frames)`."""
        text = self.decoder.embed[...]
        visual = self.encode(batch.frames) if visual is None else visual
        return gather_rows(batch.table, batch.row, text, self.connector.special(), visual)

    def hidden(self, batch: Inputs, visual: Tables | None = None) -> Float[Array, "B L D"]:
        """Hidden states after the final norm; see `embed`."""
        return self.decoder(self.embed(batch, visual), batch.position, batch.segment, batch.branch)

    def head_matrix(self) -> Float[Array, "V D"]:
        """The matrix that scores the vocabulary, for losses that never hold all logits."""
        return self.decoder.head_matrix()

    def logits(self, hidden: Float[Array, "*n D"]) -> Float32[Array, "*n V"]:
        """Scores of the next token, in float32."""
        return self.decoder.logits(hidden)
