"""Hidden states and the head matrix into a scalar and its metrics."""

from vidlmm.losses.cross_entropy import cross_entropy
from vidlmm.losses.siglip import siglip_loss

__all__ = ["cross_entropy", "siglip_loss"]
