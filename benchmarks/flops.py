"""FLOPs of the matrix products of a program (`vidlmm.plan.jaxpr`), and how often the attention of given rows turns."""

import jax
import numpy as np

from vidlmm.kernels.tree_attention.rule import sight
from vidlmm.kernels.tree_attention.xla import chunk_pairs
from vidlmm.plan.jaxpr import products

__all__ = ["attention_turns", "products"]


def attention_turns(segment: np.ndarray, branch: np.ndarray) -> int:
    """Pairs of chunks that the attention of these rows goes through on a CPU."""
    ids = sight(jax.numpy.asarray(segment), jax.numpy.asarray(branch))
    return int(chunk_pairs(ids, ids, "cpu"))
