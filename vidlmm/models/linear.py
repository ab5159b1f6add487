"""Matrix products of token rows, and what a layer keeps for its backward pass."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

from vidlmm.models.attention import SAVED


def linear(x: Float[Array, "*n D"], weight: Float[Array, "D *out"]) -> Float[Array, "..."]:
    """x times a weight whose first axis is the input's width.

    The product is always one of two plain matrices: XLA on CPU runs the same product of three-dimensional
    operands at half the speed.
    """
    rows = x.reshape(-1, x.shape[-1]) @ weight.reshape(weight.shape[0], -1)
    return rows.reshape(*x.shape[:-1], *weight.shape[1:])


def kept(layer: Callable[..., Any], remat: bool) -> Callable[..., Any]:
    """The layer with its rule of what the backward pass finds again and what it computes anew.

    Without remat the results of matrix products and of attention are kept and the cheap rest (norms,
    rotations, activations) is computed anew, which is also the fastest where memory is slow. With
    remat nothing but the layer's input is kept.
    """
    if remat:
        return jax.checkpoint(layer, prevent_cse=False)
    policies = jax.checkpoint_policies
    policy = policies.save_from_both_policies(
        policies.dots_with_no_batch_dims_saveable, policies.save_only_these_names(SAVED)
    )
    return jax.checkpoint(layer, policy=policy, prevent_cse=False)
