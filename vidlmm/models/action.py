"""Verb, noun and action of a clip, read from the decoder's states at the places that stand for them (LLaVAction)."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Float32, Int

from vidlmm.models.params import Maker
from vidlmm.spec.action import ActionSpec
from vidlmm.spec.tables import Special, Table


class ActionHeads(nnx.Module):
    """One matrix a kind, without bias (LLaVAction language_model/llava_qwen.py:63-68), under the kind's name."""

    def __init__(
        self,
        spec: ActionSpec,
        width: int,
        *,
        rngs: nnx.Rngs,
        dtype: Any = jnp.float32,
        param_dtype: Any = jnp.float32,
    ):
        make = Maker(rngs, param_dtype)
        for name, classes in spec.types:
            setattr(self, name, make.normal((classes, width), (None, "embed"), width**-0.5))
        self.spec = spec
        self.dtype = dtype

    def __call__(self, states: Float[Array, "*n K D"]) -> dict[str, Float32[Array, "*n C"]]:
        """Scores of the classes of each kind, in float32.

        states: at the K places of a clip. With one place all heads read it, with several each kind reads its own,
        in order.
        """
        found = {}
        for number, (name, _) in enumerate(self.spec.types):
            state = states[..., number if self.spec.places > 1 else 0, :].astype(self.dtype)
            head = getattr(self, name)[...].astype(self.dtype)
            found[name] = jnp.einsum("...d,cd->...c", state, head, preferred_element_type=jnp.float32)
        return found


def action_places(table: Int[Array, "B L"], row: Int[Array, "B L"], places: int) -> Int[Array, "B K"]:
    """Where the heads read: the `places` places of the first video of each row, -1 in a row without one.

    Rows hold one sample each, as in LLaVAction, which packs none.
    """
    hits = jnp.stack([(table == Table.SPECIAL) & (row == Special.ACTION + k) for k in range(places)], axis=1)
    return jnp.where(hits.any(axis=2), jnp.argmax(hits, axis=2), -1).astype(jnp.int32)
