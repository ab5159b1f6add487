"""The sigmoid loss on pairs of pictures and texts."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32


def siglip_loss(
    images: Float[Array, "n D"],
    texts: Float[Array, "m D"],
    log_scale: Float[Array, ""],
    bias: Float[Array, ""],
    together: Bool[Array, "n m"] | None = None,
) -> Float32[Array, ""]:
    """-1/n sum_ij log sigmoid(z_ij (exp(log_scale) x_i.y_j + bias)), z = 1 for pairs that belong together, else -1.

    images and texts are unit vectors. Row i of both belongs together, and nothing else, unless `together` says
    otherwise. Zhai et al., "Sigmoid loss for language image pre-training", section 3.2 and algorithm 1.
    """
    logits = pair_logits(images, texts, log_scale, bias)
    if together is None:
        together = jnp.eye(len(images), dtype=bool)
    return -jnp.sum(jax.nn.log_sigmoid(jnp.where(together, logits, -logits))) / len(images)


def pair_logits(
    images: Float[Array, "n D"], texts: Float[Array, "m D"], log_scale: Float[Array, ""], bias: Float[Array, ""]
) -> Float32[Array, "n m"]:
    """How much the loss's model holds each pair to belong together: positive for more likely than not."""
    alike = jnp.einsum("id,jd->ij", images, texts, preferred_element_type=jnp.float32)
    return (jnp.exp(log_scale) * alike + bias).astype(jnp.float32)
