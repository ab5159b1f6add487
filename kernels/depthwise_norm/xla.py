"""Plain JAX for every platform: sums and the norm in float32, what stands between them in the inputs' type."""

import jax
import jax.numpy as jnp


def depthwise_norm(
    x: jax.Array, weight: jax.Array, scale: jax.Array, bias: jax.Array, line: int, eps: float
) -> jax.Array:
    """See `vidlmm.kernels.depthwise_norm`."""
    y = depthwise(x.reshape(x.shape[0], -1, line, x.shape[2]), weight).reshape(x.shape)
    wide = y.astype(jnp.promote_types(y.dtype, jnp.float32))
    wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    return jax.nn.silu((wide * scale.astype(wide.dtype) + bias.astype(wide.dtype)).astype(x.dtype))


def depthwise(x: jax.Array, weight: jax.Array) -> jax.Array:
    """[F, h, w, D]: a convolution of every channel with its own odd window, zeros around; summed in float32.

    Written as a sum of shifted pictures: on CPU XLA fuses them into one pass over memory, where its grouped
    convolution takes forty times as long, its gradient five times.
    """
    rows, columns = weight.shape[:2]
    wide = jnp.pad(x, ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0))).astype(jnp.float32)
    kernel = weight.astype(jnp.float32)
    height, width = x.shape[1:3]
    total = sum(wide[:, i : i + height, j : j + width] * kernel[i, j] for i in range(rows) for j in range(columns))
    return jnp.asarray(total).astype(x.dtype)
