"""Activations of a projector and their derivatives, written out: a kernel's backward pass forms them again."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from vidlmm.kernels.choice import KernelError

Activation = Literal["gelu", "gelu_tanh", "none"]

_SQRT_HALF = 0.5**0.5
_DENSITY = 0.3989422804014327  # 1 / sqrt(2 pi)
_TANH = 0.7978845608028654  # sqrt(2 / pi)
_CUBE = 0.044715
_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def check_activation(name: str) -> None:
    """Raises KernelError for an unknown name."""
    if name not in get_args(Activation):
        raise KernelError(f"an activation is one of {', '.join(get_args(Activation))}; got {name!r}")


def erf_by_exp(z: Any) -> Any:
    """erf where there is none (Triton), within 1.5e-7 (Abramowitz and Stegun, 7.1.26)."""
    at = jnp.abs(z)
    t = 1 / (1 + 0.3275911 * at)
    series = jnp.zeros_like(t)
    for factor in reversed(_ERF):
        series = (series + factor) * t
    found = 1 - series * jnp.exp(-at * at)
    return jnp.where(z < 0, -found, found)


def activate(z: Any, name: Activation, erf: Callable[[Any], Any] = jax.lax.erf) -> Any:
    """gelu: z * Phi(z); gelu_tanh: its approximation by tanh; none: z."""
    if name == "none":
        return z
    if name == "gelu":
        return 0.5 * z * (1 + erf(z * _SQRT_HALF))
    return 0.5 * z * (1 + jnp.tanh(_TANH * (z + _CUBE * z * z * z)))


def slope(z: Any, name: Activation, erf: Callable[[Any], Any] = jax.lax.erf) -> Any:
    """d activate(z) / dz."""
    if name == "none":
        return jnp.ones_like(z)
    if name == "gelu":
        return 0.5 * (1 + erf(z * _SQRT_HALF)) + z * _DENSITY * jnp.exp(-0.5 * z * z)
    inner = jnp.tanh(_TANH * (z + _CUBE * z * z * z))
    return 0.5 * (1 + inner) + 0.5 * z * (1 - inner * inner) * _TANH * (1 + 3 * _CUBE * z * z)
