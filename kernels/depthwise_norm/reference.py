"""The specification: a grouped convolution, the norm over channels, SiLU."""

import jax
import jax.numpy as jnp


def depthwise_norm(
    x: jax.Array, weight: jax.Array, scale: jax.Array, bias: jax.Array, line: int, eps: float
) -> jax.Array:
    """See `vidlmm.kernels.depthwise_norm`; in the type of the inputs."""
    rows, columns, width = weight.shape
    y = jax.lax.conv_general_dilated(
        x.reshape(x.shape[0], -1, line, width),
        weight[:, :, None],
        (1, 1),
        ((rows // 2, rows // 2), (columns // 2, columns // 2)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=width,
    ).reshape(x.shape)
    mean, variance = jnp.mean(y, axis=-1, keepdims=True), jnp.var(y, axis=-1, keepdims=True)
    return jax.nn.silu((y - mean) / jnp.sqrt(variance + eps) * scale + bias)
