"""AdamW with a learning rate for each module, over a flat dict of named parameters."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from vidlmm.checkpoint.names import Params
from vidlmm.train.stage import Stage, rate_of, select


def learning_rate(stage: Stage, steps: int, step: int) -> float:
    """The stage's base rate at a step counted from 0, as the `transformers` schedules have it.

    Rises linearly from 0 over ceil(warmup_ratio * steps) steps, then falls to 0 at `steps` (cosine, linear) or stays.
    """
    warmup = math.ceil(round(stage.warmup_ratio * steps, 6))
    if step < warmup:
        return stage.lr * step / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    match stage.schedule:
        case "cosine":
            return stage.lr * 0.5 * (1.0 + math.cos(math.pi * progress))
        case "linear":
            return stage.lr * (1.0 - progress)
        case "constant":
            return stage.lr


def is_decayed(name: str) -> bool:
    """Weight decay falls on everything but norms and biases, as in `transformers.Trainer`; not on a loss's scale."""
    last = name.rsplit(".", 1)[-1].lower()
    return not (last.endswith(("bias", "scale")) or "norm" in last)


def make_optimizer(stage: Stage) -> optax.GradientTransformation:
    """Clipping by global norm, Adam and decoupled weight decay; the learning rate comes in `scaled_updates`."""

    def decayed(params: Any) -> dict[str, bool]:
        return {name: is_decayed(name) for name in params}

    parts = [optax.clip_by_global_norm(stage.clip)] if stage.clip > 0 else []
    parts.append(optax.scale_by_adam(b1=stage.b1, b2=stage.b2, eps=stage.eps, mu_dtype=jnp.float32))
    if stage.weight_decay > 0:
        parts.append(optax.add_decayed_weights(stage.weight_decay, mask=decayed))
    return optax.chain(*parts)


def relative_rates(stage: Stage, names: Mapping[str, Any]) -> dict[str, float]:
    """Each parameter's rate as a share of the stage's own.

    Raises:
        RunError: a rate for a module that does not exist.
    """
    select(names, (prefix for prefix, _ in stage.rates), what=f"stage {stage.name!r}, rates")
    base = stage.lr if stage.lr > 0 else 1.0
    return {name: rate_of(name, stage) / base for name in names}


def apply_updates(params: Params, updates: Any, rate: Float[Array, ""], shares: Mapping[str, float]) -> Params:
    """Parameters minus rate * share * update, in the parameters' own dtype."""
    return {n: (p - (rate * shares[n]) * updates[n].astype(jnp.float32)).astype(p.dtype) for n, p in params.items()}
