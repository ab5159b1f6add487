"""Kernels of token reduction and of attention, usable without the rest: installed as vidlmm.kernels.

Each kernel is a folder: its entry point, `reference.py` (the specification), and a file for each backend.
`vidlmm.kernels.choice` tells which of them a call runs; docs/kernels.md what each costs.
"""

from vidlmm.kernels.choice import KernelError, choose, compiling_for
from vidlmm.kernels.depthwise_norm import depthwise_norm
from vidlmm.kernels.project_pool import project_pool
from vidlmm.kernels.slowfast_pool import slowfast_pool
from vidlmm.kernels.splice import splice
from vidlmm.kernels.stc_downsample import stc_downsample
from vidlmm.kernels.temporal_pool import temporal_attend, temporal_pool
from vidlmm.kernels.tree_attention import tree_attention

__all__ = [
    "KernelError",
    "choose",
    "compiling_for",
    "depthwise_norm",
    "project_pool",
    "slowfast_pool",
    "splice",
    "stc_downsample",
    "temporal_attend",
    "temporal_pool",
    "tree_attention",
]
