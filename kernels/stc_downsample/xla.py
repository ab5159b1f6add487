"""Plain JAX for every platform: the windows as rows of one matrix, in the inputs' type."""

import jax
import jax.numpy as jnp


def stc_downsample(x: jax.Array, weight: jax.Array, bias: jax.Array, length: jax.Array, padding: int) -> jax.Array:
    """See `vidlmm.kernels.stc_downsample`.

    The stride is the window, so that no two windows overlap: the convolution is one matrix product of windows, whose
    gradient XLA on CPU finds several times faster than the convolution's.
    """
    there = jnp.arange(x.shape[1]) < length[:, None]
    seen = windows(jnp.where(there[:, :, None, None], x, 0), weight.shape[:3], padding)
    rows = seen.reshape(-1, seen.shape[3] * seen.shape[4]) @ weight.reshape(-1, weight.shape[4])
    return jax.nn.silu(rows.reshape(*seen.shape[:3], -1) + bias)


def windows(x: jax.Array, window: tuple[int, ...], padding: int) -> jax.Array:
    """[C, T, N, D] to [C, t, h * w, k, D]: frames of N = side * side tokens cut into windows of k tokens, zeros
    around; what does not fill a window is left out."""
    side = round(x.shape[2] ** 0.5)
    x = x.reshape(*x.shape[:2], side, side, x.shape[3])
    t, h, w = ((size + 2 * padding) // step for size, step in zip(x.shape[1:4], window, strict=True))
    a, b, c = window
    x = jnp.pad(x, ((0, 0), *((padding, padding),) * 3, (0, 0)))[:, : t * a, : h * b, : w * c]
    x = x.reshape(x.shape[0], t, a, h, b, w, c, x.shape[-1]).transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(x.shape[0], t, h * w, a * b * c, x.shape[-1])
