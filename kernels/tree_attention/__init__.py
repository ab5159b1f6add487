"""Attention of rows in which a tree of branches shares a prefix: exact, and no array of all scores.

Who sees whom is `vidlmm.kernels.tree_attention.rule`. Queries and keys may be any part of the rows in any order, also
the same whole rows; where rows are split over devices, each answers its own queries on all keys.
"""

import jax
from jaxtyping import Array, Float

from vidlmm.kernels.choice import Backend, KernelError, Target, backend_for, device_here, target_of
from vidlmm.kernels.tree_attention import gpu, tpu, xla
from vidlmm.kernels.tree_attention.rule import Ids

__all__ = ["Ids", "tree_attention"]

# Bytes of queries, keys, values and output that XLA holds on the chip on these targets, where its program then moves no
# more than the floor: it did so with 34 MB and not with 67 (docs/kernels.md).
HELD: dict[Target | None, int] = {"v5e": 48 * 2**20, "v6e": 48 * 2**20}


def tree_attention(
    q: Float[Array, "B K G Q d"],
    k: Float[Array, "B K S d"],
    v: Float[Array, "B K S d"],
    queries: Ids,
    keys: Ids,
    *,
    backend: Backend = "auto",
    block: tuple[int, int] | None = None,
    interpret: bool = False,
) -> Float[Array, "B K G Q d"]:
    """softmax(q k^T / sqrt(d)) v over the keys that a query sees, G query heads on each of K key heads.

    Scores, softmax and sums are float32, or float64 where the inputs are. A query that sees nothing gets zeros. Output
    and log of the softmax's sum, which the backward pass reads, are named `heads.SAVED`: a recomputation policy may
    keep them.

    Args:
        queries, keys: ids of the Q and the S places.
        backend: see `vidlmm.kernels.choice`; the compiled program names it (`tree_attention_tpu`). "auto" takes plain
            JAX for shapes beyond the TPU kernel's limits, and for rows that XLA holds on the chip (`HELD`).
        block: places of queries and of keys in a step, where the rule's choice is not wanted: multiples of 128 on a
            TPU, powers of two on a GPU.
        interpret: runs the kernel for TPU or GPU step by step on any device, for tests.

    Raises:
        KernelError: shapes that do not belong together, or beyond what the named backend takes.
    """
    rows, heads, _, count, depth = q.shape
    if k.shape != v.shape or (k.shape[0], k.shape[1], k.shape[3]) != (rows, heads, depth):
        raise KernelError(
            f"queries {q.shape} with keys {k.shape} and values {v.shape}: (B, K, G, Q, d) and (B, K, S, d)"
        )
    if any(x.shape != (rows, count) for x in queries) or any(x.shape != (rows, k.shape[2]) for x in keys):
        shapes = [tuple(x.shape for x in ids) for ids in (queries, keys)]
        raise KernelError(f"ids {shapes} for {count} queries and {k.shape[2]} keys of {rows} rows: one a row and place")
    setup = tpu.Setup(block, interpret)
    chosen = backend_for("tree_attention", backend, lambda: _worth(setup, q, k))
    with jax.named_scope(f"tree_attention_{chosen}"):
        if chosen == "xla":
            return xla.tree_attention(q, k, v, queries, keys)
        if chosen == "gpu":
            return gpu.tree_attention(q, k, v, queries, keys, block, interpret)
        return tpu.tree_attention(q, k, v, queries, keys, setup)


def _worth(setup: tpu.Setup, q: Array, k: Array) -> None:
    """Raises KernelError where "auto" leaves rows to plain JAX: beyond the TPU kernel's limits, or so small that XLA
    holds all of them on the chip."""
    setup.sizes(q, k)
    small = HELD.get(target_of(device_here()), 0)
    if (held := 2 * (q.nbytes + k.nbytes)) <= small:
        raise KernelError(f"queries, keys, values and output take {held:,} bytes: XLA holds them on the chip")
