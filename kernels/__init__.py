"""Token-reduction kernels, usable without the rest: installed as vidlmm.kernels.

Each kernel is a folder: its entry point, `reference.py` (the specification), and a file for each backend.
`vidlmm.kernels.choice` tells which of them a call runs; docs/kernels.md what each costs.
"""

from vidlmm.kernels.choice import KernelError, choose
from vidlmm.kernels.project_pool import project_pool
from vidlmm.kernels.slowfast_pool import slowfast_pool
from vidlmm.kernels.splice import splice
from vidlmm.kernels.temporal_pool import temporal_pool

__all__ = ["KernelError", "choose", "project_pool", "slowfast_pool", "splice", "temporal_pool"]
