"""The sigmoid loss on pairs of pictures and texts."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32


def siglip_loss(
    images: Float[Array, "n D"],
    texts: Float[Array, "n D"],
    log_scale: Float[Array, ""],
    bias: Float[Array, ""],
    same: Bool[Array, "n n"] | None = None,
) -> Float32[Array, ""]:
    """-1/n sum_ij log sigmoid(z_ij (exp(log_scale) x_i.y_j + bias)), z = 1 on the diagonal, -1 elsewhere.

    images and texts are unit vectors, row i of both belongs together. Zhai et al., "Sigmoid loss for language image
    pre-training", section 3.2 and algorithm 1. `same` marks all pairs that belong together where there are more, such
    as equal texts: z is 1 for them, and those of a row weigh as much as one.
    """
    count = images.shape[0]
    logits = jnp.exp(log_scale) * jnp.einsum("id,jd->ij", images, texts, preferred_element_type=jnp.float32) + bias
    together = jnp.eye(count, dtype=bool) if same is None else same
    signs = jnp.where(together, 1.0, -1.0)
    weights = jnp.where(together, 1.0 / jnp.sum(together, axis=1, keepdims=True), 1.0)
    return -jnp.sum(weights * jax.nn.log_sigmoid(signs * logits.astype(jnp.float32))) / count
