"""Grids and blocks of the attention's two kernels for TPU: forward, and all gradients.

Both grids are key heads by meetings of blocks (`meetings`), whose number is known when the program runs. A step holds G
query heads of a block of places, so that keys and values are read once for all heads of a group. The gradients of a
row's keys and values stay on the chip for all its queries; keys that are too many for that go through in parts.
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
# Bytes of the gradients of keys and values that stay on the chip.
RESIDENT = 36 * 2**20

# What the kernels are called in compiled programs, with "_dx" behind it in the backward pass.
KERNEL = "tree_attention_tpu"
Pass = Literal["", "_dx"]


@dataclass(frozen=True)
class Sizes:
    """queries, keys: places, filled up to whole blocks; true_queries, true_keys: those that are there. ahead: places
    from the first key to the first query in the rows by which a call declares its work. part: the keys are not all."""

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
    ahead: int
    part: bool = False

    @property
    def wide(self) -> Any:
        return jnp.promote_types(self.dtype, jnp.float32)

    @property
    def code(self) -> Code:
        return Code(self.rows, self.queries // self.block_q, self.keys // self.block_k)

    def parts(self, resident: int) -> "list[tuple[slice, Sizes]]":
        """Keys in parts of whole blocks whose gradients take no more than `resident` bytes, if a block does."""
        lanes = -(-self.depth // LANES) * LANES
        blocks, fitting = self.keys // self.block_k, resident // (2 * self.block_k * lanes * 4)
        count = -(-blocks // max(fitting, 1))
        each = -(-blocks // count) * self.block_k
        found = [slice(first, min(first + each, self.true_keys)) for first in range(0, self.true_keys, each)]
        return [(keys, self._of(keys, len(found) > 1)) for keys in found]

    def _of(self, keys: slice, part: bool) -> "Sizes":
        there = keys.stop - keys.start
        filled = -(-there // self.block_k) * self.block_k
        return replace(self, keys=filled, true_keys=there, ahead=self.ahead - keys.start, part=part)


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
    own, keys = (-(-size // part) * part for size, part in ((queries, block_q), (k.shape[2], block_k)))
    made = Sizes(
        rows, heads, groups, own, keys, depth, q.dtype, block_q, block_k, queries, k.shape[2], k.shape[2] - queries
    )
    code = made.code
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
    plain = causal_meetings(s)
    flops = 2 * {"": 2, "_dx": 5}[kind] * s.heads * s.groups * len(np.unique(plain)) * s.block_q * s.block_k * s.depth
    return replace(_forward(s) if kind == "" else _gradients(s), flops=flops, usual=(plain,))


def _forward(s: Sizes) -> Launch:
    ins = (_queries(s), _keys(s), _keys(s), *_ids(s))
    outs = (_queries(s), _numbers(s))
    state = ((s.groups, s.block_q, LANES), s.wide)
    scratch = (((s.groups, s.block_q, s.depth), s.wide), state, state, ((3, s.block_q, LANES), jnp.int32))
    return Launch(KERNEL, (s.heads, s.code.most), ins, outs, scratch, (True, False), 1)


def _gradients(s: Sizes) -> Launch:
    ins = (_queries(s), _keys(s), _keys(s), _queries(s), _numbers(s), _numbers(s), *_ids(s))
    kept = Block((s.rows, s.heads, s.keys, s.depth), s.wide, (), lambda *_: (), apart=True)
    outs = (_queries(s, s.wide if s.part else s.dtype), kept, kept)
    sums = ((s.keys, s.depth), s.wide)
    scratch = (((s.groups, s.block_q, s.depth), s.wide), sums, sums)
    return Launch(f"{KERNEL}_dx", (s.heads, s.code.most), ins, outs, scratch, (True, False), 1)


def _queries(s: Sizes, dtype: Any = None) -> Block:
    shape, block = (s.rows, s.heads, s.groups, s.queries, s.depth), (1, 1, s.groups, s.block_q, s.depth)
    code = s.code
    return Block(shape, dtype or s.dtype, block, lambda h, n, m: (code.row(m[n]), h, 0, code.query(m[n]), 0))


def _numbers(s: Sizes) -> Block:
    """One a head and query."""
    shape, block, code = (s.rows, s.heads, s.groups, s.queries), (1, 1, s.groups, s.block_q), s.code
    return Block(shape, s.wide, block, lambda h, n, m: (code.row(m[n]), h, 0, code.query(m[n])))


def _keys(s: Sizes) -> Block:
    shape, block, code = (s.rows, s.heads, s.keys, s.depth), (1, 1, s.block_k, s.depth), s.code
    return Block(shape, s.dtype, block, lambda h, n, m: (code.row(m[n]), h, code.key(m[n]), 0))


def _ids(s: Sizes) -> tuple[Block, Block]:
    def block(length: int, size: int, at: Any) -> Block:
        return Block((s.rows, 3, length), jnp.int32, (1, 3, size), lambda h, n, m: (s.code.row(m[n]), 0, at(m[n])))

    return block(s.queries, s.block_q, s.code.query), block(s.keys, s.block_k, s.code.key)


def causal_meetings(s: Sizes) -> np.ndarray:
    """`meetings` without flags, of rows of one segment without branches in which the queries stand `ahead`."""
    q, k, code = np.arange(0, s.queries, s.block_q), np.arange(0, s.keys, s.block_k), s.code
    last = s.ahead + np.minimum(q + s.block_q, s.true_queries) - 1
    meet = (last[:, None] >= k) & (q < s.true_queries)[:, None] & (k < s.true_keys)
    meet[~meet.any(axis=1), 0] = True
    found = code.pack(*np.nonzero(np.broadcast_to(meet, (s.rows, *meet.shape))))
    return np.append(found, np.full(code.most - len(found), found[-1]))
