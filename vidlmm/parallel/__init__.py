"""Devices into a mesh, arrays onto it, and the compiler's cache on disk."""

from vidlmm.parallel.mesh import (
    MeshError,
    batch_shardings,
    make_mesh,
    param_shardings,
    place_batch,
    replicated,
)
from vidlmm.parallel.runtime import cache_folder, use_compilation_cache

__all__ = [
    "MeshError",
    "batch_shardings",
    "cache_folder",
    "make_mesh",
    "param_shardings",
    "place_batch",
    "replicated",
    "use_compilation_cache",
]
