"""The state that a training step reads and replaces."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vidlmm.checkpoint.names import Params


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """What a step reads and replaces.

    The fields are untyped because the same class holds arrays, shapes, or shardings.

    step: int32, steps done in this stage. trainable: name to float32 array.
    optimizer: optax state of `trainable` alone.
    skipped, skipped_in_row: int32, steps left out because of a non-finite loss or gradient, in all and since the
    last good one.
    """

    step: Any
    trainable: Any
    optimizer: Any
    skipped: Any
    skipped_in_row: Any


def init_state(trainable: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """Step 0 with fresh optimizer state. Frozen parameters have no place in it, so they cost no optimizer memory."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        trainable=trainable,
        optimizer=optimizer.init(trainable),
        skipped=jnp.zeros((), jnp.int32),
        skipped_in_row=jnp.zeros((), jnp.int32),
    )
