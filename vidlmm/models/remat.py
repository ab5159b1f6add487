"""What a layer keeps for its backward pass, by name.

    name        kept for each layer                                       computed anew in the backward pass
    none        everything that the backward pass reads                   nothing
    dots        results of matrix products and of attention               norms, rotations, activations
    attention   the layer's input and the result of attention             the layer but for its attention
    layer       the layer's input                                         the layer
    offload     the layer's input, in the host's memory                   the layer

Down the list memory falls and work grows; on a CPU, where memory is slow, "dots" is also faster than "none". Where a
device has memory of its own, "offload" fetches a layer's input while the layer above is at work; a CPU has none, and
there it is "layer". None of them changes a number but in its last bits.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
from jax.ad_checkpoint import checkpoint_name

from vidlmm.kernels.tree_attention.heads import SAVED

Remat = Literal["none", "dots", "attention", "layer", "offload"]
REMATS: tuple[Remat, ...] = get_args(Remat)
_INPUT = "layer input"


def kept(layer: Callable[..., Any], remat: Remat) -> Callable[..., Any]:
    """The layer, a function of its input and of anything else, under a policy of this file.

    Raises:
        ValueError: an unknown policy.
    """
    policies = jax.checkpoint_policies
    match remat:
        case "none":
            return layer
        case "dots":
            policy = policies.save_from_both_policies(
                policies.dots_with_no_batch_dims_saveable, policies.save_only_these_names(SAVED)
            )
        case "attention":
            policy = policies.save_only_these_names(SAVED)
        case "layer":
            policy = None
        case "offload":
            layer = _input_named(layer)
            policy = policies.save_and_offload_only_these_names(
                names_which_can_be_saved=[],
                names_which_can_be_offloaded=[_INPUT],
                offload_src="device",
                offload_dst="pinned_host",
            )
        case _:
            raise ValueError(f"unknown remat policy {remat!r}; it must be one of {', '.join(REMATS)}")
    return jax.checkpoint(layer, policy=policy, prevent_cse=False)


def _input_named(layer: Callable[..., Any]) -> Callable[..., Any]:
    def named(x: Any, *rest: Any) -> Any:
        return layer(checkpoint_name(x, _INPUT), *rest)

    return named
