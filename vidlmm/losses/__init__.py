"""Hidden states and the head matrix into a scalar and its metrics."""

from vidlmm.losses.action import action_loss
from vidlmm.losses.cross_entropy import cross_entropy
from vidlmm.losses.siglip import pair_logits, siglip_loss

__all__ = ["action_loss", "cross_entropy", "pair_logits", "siglip_loss"]
