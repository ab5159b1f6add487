"""Grids and tiles of the attention's three kernels for GPUs: forward, the queries' gradient, that of keys and values.

A program of the first two has a block of queries of one head and goes through the keys that it meets; the heads of a
group stand next to each other in the grid and read the same keys at the same time. A program of the third has a block
of keys and goes through the queries of all heads of its group. The longest rows of work come first.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.launch_gpu import LEAST, Launch, Part, steps
from vidlmm.kernels.tree_attention.launches import MOST_DEPTH

# What the kernels are called in compiled programs, with "_dx" behind it for the queries' gradient and "_dx_keys" for
# that of keys and values.
KERNEL = "tree_attention_gpu"
Pass = Literal["", "_dx", "_dx_keys"]
MOST = 256


@dataclass(frozen=True)
class Tile:
    """Places of queries and of keys in a step."""

    queries: int
    keys: int
    warps: int
    stages: int


# The sums and the scores of a tile fit in the registers of its threads; float32 takes the ordinary units, for it is not
# rounded. By the width of a tile up to which they hold.
_BFLOAT16: dict[int, dict[Pass, Tile]] = {
    128: {"": Tile(128, 64, 8, 3), "_dx": Tile(128, 64, 8, 2), "_dx_keys": Tile(64, 128, 8, 2)},
    256: {"": Tile(64, 64, 8, 2), "_dx": Tile(64, 64, 8, 2), "_dx_keys": Tile(32, 64, 8, 2)},
}
_FLOAT = {128: Tile(32, 32, 8, 1), 256: Tile(16, 32, 8, 1)}


@dataclass(frozen=True)
class Sizes:
    """queries, keys: places of a row. width: columns of a tile, a power of two that holds a head's numbers; block:
    places of queries and of keys in a step, None by rule."""

    rows: int
    heads: int
    groups: int
    queries: int
    keys: int
    depth: int
    dtype: Any
    width: int
    block: tuple[int, int] | None = None

    @property
    def wide(self) -> Any:
        return jnp.promote_types(self.dtype, jnp.float32)

    def tile(self, kind: Pass) -> Tile:
        most = 128 if self.width <= 128 else 256
        made = _BFLOAT16[most][kind] if self.dtype == jnp.bfloat16 else _FLOAT[most]
        own = _part(self.queries, made.queries), _part(self.keys, made.keys)
        queries, keys = self.block or own
        return Tile(queries, keys, made.warps, made.stages)


def sizes_of(q: Any, k: Any, block: tuple[int, int] | None, *, interpret: bool) -> Sizes:
    """Raises KernelError for what the kernels do not take.

    Args:
        q, k: [B, K, G, Q, d], [B, K, S, d]. block: places of queries and of keys in a step; None by rule.
    """
    rows, heads, groups, queries, depth = q.shape
    kinds = (jnp.bfloat16, jnp.float32, *((jnp.float64,) if interpret else ()))
    if q.dtype not in kinds or k.dtype != q.dtype:
        raise KernelError(f"got queries {q.dtype} and keys {k.dtype}: both bfloat16 or both float32")
    if depth % 8 or depth > MOST_DEPTH:
        raise KernelError(
            f"got heads of size {depth}; the kernel for GPUs takes sizes that are multiples of 8 up to {MOST_DEPTH}"
        )
    if block is not None and any(size & (size - 1) or not LEAST <= size <= MOST for size in block):
        raise KernelError(
            f"blocks of {block[0]} queries and {block[1]} keys on a GPU: give powers of two from {LEAST} to {MOST}"
        )
    return Sizes(rows, heads, groups, queries, k.shape[2], depth, q.dtype, _part(depth, MOST_DEPTH), block)


def _part(length: int, most: int) -> int:
    """The smallest power of two that holds it, up to `most`."""
    return max(min(1 << (length - 1).bit_length(), most), LEAST)


def launch_of(s: Sizes, kind: Pass) -> Launch:
    """What runs. Grid: heads of a group, blocks of queries, rows and key heads; or blocks of keys, rows and key heads.

    What programs ask for is counted for plain causal rows: one segment, no branches, the queries in the last places.
    """
    tile, both = s.tile(kind), s.rows * s.heads
    blocks_q, blocks_k = steps(s.queries, tile.queries), steps(s.keys, tile.keys)
    if kind == "_dx_keys":
        return Launch(f"{KERNEL}{kind}", (blocks_k, both), *_of_keys(s, tile), tile.warps, tile.stages)
    grid = (s.groups, blocks_q, both)
    return Launch(f"{KERNEL}{kind}", grid, *_of_queries(s, tile, kind), tile.warps, tile.stages)


def _of_queries(s: Sizes, tile: Tile, kind: Pass) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    meet, masked, places = _causal(s, tile)
    every, programs = (0, 1, 2), s.rows * s.heads * s.groups
    keys = programs * int(np.sum(meet @ places[1]))
    queries = Part((s.rows, s.heads, s.groups, s.queries, s.depth), s.dtype, every)
    numbers = Part(queries.shape[:-1], s.wide, every)
    of_keys = Part((s.rows, s.heads, s.keys, s.depth), s.dtype, every, keys * s.depth)
    ins = (
        *_lists(s, meet, every, programs),
        Part((s.rows, 3, len(places[0]) * tile.queries), jnp.int32, every, programs * 3 * s.queries),
        Part((s.rows, 3, len(places[1]) * tile.keys), jnp.int32, every, programs * 3 * tile.keys * int(np.sum(masked))),
        queries,
        of_keys,
        of_keys,
    )
    return (ins, (queries, numbers)) if kind == "" else ((*ins, queries, numbers, numbers), (queries,))


def _of_keys(s: Sizes, tile: Tile) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    meet, masked, places = _causal(s, tile)
    every, programs = (0, 1), s.rows * s.heads
    asked = programs * s.groups * int(np.sum(places[0] @ meet))
    queries = Part((s.rows, s.heads, s.groups, s.queries, s.depth), s.dtype, every, asked * s.depth)
    numbers = Part(queries.shape[:-1], s.wide, every, asked)
    keys = Part((s.rows, s.heads, s.keys, s.depth), s.dtype, every)
    of_queries = programs * s.groups * 3 * tile.queries * int(np.sum(masked))
    ins = (
        *_lists(s, meet.T, every, programs, s.groups),
        Part((s.rows, 3, len(places[0]) * tile.queries), jnp.int32, every, of_queries),
        Part((s.rows, 3, len(places[1]) * tile.keys), jnp.int32, every, programs * 3 * s.keys),
        queries,
        keys,
        keys,
        queries,
        numbers,
        numbers,
    )
    return ins, (keys, keys)


def _lists(s: Sizes, meet: np.ndarray, every: tuple[int, ...], programs: int, times: int = 1) -> tuple[Part, Part]:
    """times: that a program goes through its line."""
    blocks = Part((s.rows, *meet.shape), jnp.int32, every, programs * times * int(np.sum(meet)))
    return blocks, Part((s.rows, meet.shape[0], 2), jnp.int32, every, 2 * programs * meet.shape[0])


def _causal(s: Sizes, tile: Tile) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Which blocks of queries and keys meet in a plain causal row, which of them are masked, and the places of each."""
    ahead = s.keys - s.queries
    first_q, first_k = np.arange(0, s.queries, tile.queries), np.arange(0, s.keys, tile.keys)
    end_q, end_k = np.minimum(first_q + tile.queries, s.queries), np.minimum(first_k + tile.keys, s.keys)
    meet = (ahead + end_q)[:, None] > first_k
    full = (end_q - first_q == tile.queries)[:, None] & (end_k - first_k == tile.keys)
    whole = ((ahead + first_q)[:, None] >= end_k - 1) & full
    return meet, meet & ~whole, (end_q - first_q, end_k - first_k)
