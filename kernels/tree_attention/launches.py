"""Grids and blocks of the attention's three kernels: forward, the queries' gradient, the keys' and values' gradients.

Every grid is key heads by meetings of blocks (`meetings`), whose number is known when the program runs. A step holds G
query heads of a block of places, so that keys and values are read once for all heads of a group.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from vidlmm.kernels.blocks import LANES
from vidlmm.kernels.choice import KernelError
from vidlmm.kernels.launch import Block, Launch
from vidlmm.kernels.tree_attention.meetings import Code

# Rows of queries (places times heads of a group) and keys in one step.
STEP_ROWS, STEP_KEYS = 2048, 512
MOST_DEPTH, MOST_GROUPS = 256, 16
# Meetings, 4 bytes each, that the scalar memory holds.
MOST_MEETINGS = 2**17

# What the kernels are called in compiled programs, with "_dq" and "_dkv" behind it.
KERNEL = "tree_attention_tpu"
Pass = Literal["", "_dq", "_dkv"]


@dataclass(frozen=True)
class Sizes:
    """queries, keys: places, filled up to whole blocks; true_queries, true_keys: those that are there."""

    rows: int
    heads: int
    groups: int
    queries: int
    keys: int
    depth: int
    dtype: Any
    block_q: int
    block_k: int
    true_queries: int
    true_keys: int

    @property
    def wide(self) -> Any:
        return jnp.promote_types(self.dtype, jnp.float32)

    def code(self, hold: str) -> Code:
        """Of meetings that hold the queries or the keys."""
        q, k = self.queries // self.block_q, self.keys // self.block_k
        return Code(self.rows, q, k) if hold == "queries" else Code(self.rows, k, q)


def sizes_of(q: Any, k: Any, block: tuple[int, int] | None, *, interpret: bool) -> Sizes:
    """Raises KernelError for what does not fit on the chip.

    Args:
        q, k: [B, K, G, Q, d], [B, K, S, d]. block: places of queries and of keys in a step; None by rule.
    """
    rows, heads, groups, queries, depth = q.shape
    kinds = (jnp.bfloat16, jnp.float32, *((jnp.float64,) if interpret else ()))
    if q.dtype not in kinds or k.dtype != q.dtype:
        raise KernelError(f"got queries {q.dtype} and keys {k.dtype}: both bfloat16 or both float32")
    if depth % 8 or depth > MOST_DEPTH or groups > MOST_GROUPS:
        raise KernelError(
            f"got {groups} query heads of size {depth} on a key head; the TPU kernel takes sizes that are multiples of "
            f"8 up to {MOST_DEPTH}, and up to {MOST_GROUPS} query heads"
        )
    if block is not None and (block[0] % LANES or block[1] % LANES):
        raise KernelError(f"blocks of {block[0]} queries and {block[1]} keys: give multiples of {LANES}")
    most = max(STEP_ROWS // groups // LANES, 1) * LANES
    block_q, block_k = (_part(queries, most), _part(k.shape[2], STEP_KEYS)) if block is None else block
    filled = (-(-size // part) * part for size, part in ((queries, block_q), (k.shape[2], block_k)))
    made = Sizes(rows, heads, groups, *filled, depth, q.dtype, block_q, block_k, queries, k.shape[2])
    code = made.code("queries")
    if code.most > MOST_MEETINGS or code.bits > 31:
        raise KernelError(
            f"{rows} rows of {queries} queries and {k.shape[2]} keys are {code.most} pairs of blocks of {block_q} and "
            f"{block_k}; the TPU kernel lists {MOST_MEETINGS}: give a device fewer rows, or shorter ones"
        )
    return made


def _part(length: int, most: int) -> int:
    """Places of a block: the largest part of whole lanes that cuts a row evenly, where one is not much smaller than
    `most`, or else what fills the row up least."""
    even = [part for part in range(LANES, most + 1, LANES) if length % part == 0 and 2 * part >= most]
    blocks = -(-length // most)
    return max(even) if even else -(-length // (blocks * LANES)) * LANES


def launch_of(s: Sizes, kind: Pass) -> Launch:
    """What runs, with the work that it declares: that of plain causal rows (one segment, no branches), of which the
    queries are the last places."""
    hold = "keys" if kind == "_dkv" else "queries"
    plain = causal_meetings(s, hold)
    made, count = _launch(s, kind, s.code(hold)), len(np.unique(plain))
    products = {"": 2, "_dq": 3, "_dkv": 4}[kind]
    flops = 2 * products * s.heads * s.groups * count * s.block_q * s.block_k * s.depth
    return replace(made, flops=flops, usual=(plain,))


def _launch(s: Sizes, kind: Pass, code: Code) -> Launch:
    grid = (s.heads, code.most)
    at_q, at_k = (code.of_other, code.of_held) if kind == "_dkv" else (code.of_held, code.of_other)

    def queries(width: int | None, dtype: Any) -> Block:
        """Rows of `width` numbers a head and place; one number each under None."""
        shape, block = (s.rows, s.heads, s.groups, s.queries), (1, 1, s.groups, s.block_q)
        if width is None:
            return Block(shape, dtype, block, lambda h, n, m: (code.row(m[n]), h, 0, at_q(m[n])))
        return Block((*shape, width), dtype, (*block, width), lambda h, n, m: (code.row(m[n]), h, 0, at_q(m[n]), 0))

    def keys() -> Block:
        shape, block = (s.rows, s.heads, s.keys, s.depth), (1, 1, s.block_k, s.depth)
        return Block(shape, s.dtype, block, lambda h, n, m: (code.row(m[n]), h, at_k(m[n]), 0))

    def ids(length: int, block: int, at: Any) -> Block:
        return Block((s.rows, 3, length), jnp.int32, (1, 3, block), lambda h, n, m: (code.row(m[n]), 0, at(m[n])))

    q, number = queries(s.depth, s.dtype), queries(None, s.wide)
    both = (ids(s.queries, s.block_q, at_q), ids(s.keys, s.block_k, at_k))
    per_head = (s.groups, s.block_q, LANES)
    own = ((s.groups, s.block_q, s.depth), s.wide)
    if kind == "":
        ins, outs = (q, keys(), keys(), *both), (q, number)
        scratch = (own, (per_head, s.wide), (per_head, s.wide), _columns(s.block_q))
    elif kind == "_dq":
        ins, outs = (q, keys(), keys(), q, number, number, *both), (q,)
        scratch = (own, (per_head, s.wide), (per_head, s.wide), _columns(s.block_q))
    else:
        ins, outs = (q, keys(), keys(), q, number, number, *both), (keys(), keys())
        scratch = (((2, s.block_k, s.depth), s.wide), _columns(s.block_k))
    return Launch(f"{KERNEL}{kind}", grid, ins, outs, scratch, (True, False), 1)


def _columns(block: int) -> tuple[tuple[int, ...], Any]:
    return (3, block, LANES), jnp.int32


def causal_meetings(s: Sizes, hold: str) -> np.ndarray:
    """`meetings` without flags, of rows of one segment without branches, of which the queries are the last places."""
    q, k, code = np.arange(0, s.queries, s.block_q), np.arange(0, s.keys, s.block_k), s.code(hold)
    last = s.true_keys - s.true_queries + np.minimum(q + s.block_q, s.true_queries) - 1
    meet = (last[:, None] >= k) & (q < s.true_queries)[:, None] & (k < s.true_keys)
    meet = meet if hold == "queries" else meet.T
    meet[~meet.any(axis=1), 0] = True
    rows, held, other = np.nonzero(np.broadcast_to(meet, (s.rows, *meet.shape)))
    found = code.pack(rows, held, other)
    return np.append(found, np.full(code.most - len(found), found[-1]))
