"""Which blocks of queries and keys meet, in the order in which a kernel goes through them.

On a TPU a core goes through all meetings of its rows. A meeting is one int32: row, block of queries, block of keys, and
three flags. The first and the last meeting of a block of queries are flagged, and those in which everybody sees
everybody, where nothing has to be masked. A block of queries that sees nobody has one meeting all the same, or nobody
would write its zeros. On a GPU a program goes through the meetings of one block (`Lists`).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from vidlmm.kernels.tree_attention.rule import Ids, all_meet, may_meet, spans

WHOLE, FIRST, LAST = 1, 2, 4
_FLAGS = 3
_FAR = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Code:
    """The bits of a meeting. queries, keys: blocks of a row."""

    rows: int
    queries: int
    keys: int

    @property
    def most(self) -> int:
        """Meetings, if all meet all."""
        return self.rows * self.queries * self.keys

    @property
    def bits(self) -> int:
        return _FLAGS + sum(_bits(size) for size in (self.rows, self.queries, self.keys))

    def pack(self, row: Any, query: Any, key: Any) -> Any:
        return ((row << _bits(self.queries) | query) << _bits(self.keys) | key) << _FLAGS

    def row(self, code: Any) -> Any:
        return code >> (_FLAGS + _bits(self.keys) + _bits(self.queries))

    def query(self, code: Any) -> Any:
        return (code >> (_FLAGS + _bits(self.keys))) & ((1 << _bits(self.queries)) - 1)

    def key(self, code: Any) -> Any:
        return (code >> _FLAGS) & ((1 << _bits(self.keys)) - 1)


def meetings(queries: Ids, keys: Ids, block_q: int, block_k: int) -> tuple[Int[Array, " n"], Int[Array, ""]]:
    """All meetings in order, and how many there are; behind them the last one stands again.

    Args:
        queries, keys: of whole blocks.
    """
    (q, rows, count_q), (k, _, count_k) = (_in_blocks(*one) for one in ((queries, block_q), (keys, block_k)))
    q, k, code = q.at((slice(None), slice(None), None)), k.at((slice(None), None)), Code(rows, count_q, count_k)
    # [rows, queries, keys]
    meet, places = may_meet(q, k), jnp.arange(count_k)
    meet = meet | (~jnp.any(meet, axis=-1, keepdims=True) & (places == 0))
    first = jnp.argmax(meet, axis=-1, keepdims=True)
    last = count_k - 1 - jnp.argmax(meet[..., ::-1], axis=-1, keepdims=True)
    flags = WHOLE * all_meet(q, k) + FIRST * (places == first) + LAST * (places == last)
    each = jnp.arange(rows)[:, None, None], jnp.arange(count_q)[:, None], places
    packed = (code.pack(*each) + flags).astype(jnp.int32)
    # They are in order already: sorting moves those that meet to the front.
    found, count = jnp.sort(jnp.where(meet, packed, _FAR).ravel()), jnp.sum(meet, dtype=jnp.int32)
    return jnp.minimum(found, jnp.max(jnp.where(meet, packed, -1))), count


class Lists(NamedTuple):
    """For each block of a row the blocks that it meets.

    blocks: their numbers, first those in which not everybody sees everybody; what stands behind the last one is
        nothing. ends: where in the line those end that have to be masked, and where all end.
    """

    blocks: Int[Array, "B n m"]
    ends: Int[Array, "B n 2"]


def lists(queries: Ids, keys: Ids, block_q: int, block_k: int, *, of_keys: bool) -> Lists:
    """The blocks of keys that each block of queries meets, or of queries that each block of keys meets.

    Args:
        queries, keys: of whole blocks.
    """
    (q, *_), (k, *_) = (_in_blocks(*one) for one in ((queries, block_q), (keys, block_k)))
    q, k = q.at((slice(None), slice(None), None)), k.at((slice(None), None))
    meet, whole = may_meet(q, k), all_meet(q, k)
    return _listed(meet.swapaxes(1, 2), whole.swapaxes(1, 2)) if of_keys else _listed(meet, whole)


def _listed(meet: Bool[Array, "B n m"], whole: Bool[Array, "B n m"]) -> Lists:
    """A block that nobody sees, or that sees nobody, meets none."""
    count = meet.shape[2]
    order = jnp.arange(count, dtype=jnp.int32) + count * (whole + 2 * ~meet).astype(jnp.int32)
    ends = jnp.stack([jnp.sum(meet & ~whole, axis=2), jnp.sum(meet, axis=2)], axis=2)
    return Lists(jnp.sort(order, axis=2) % count, ends.astype(jnp.int32))


def _in_blocks(ids: Ids, block: int) -> tuple[Any, int, int]:
    rows, length = ids.place.shape
    return spans(*(x.reshape(rows, -1, block) for x in ids)), rows, length // block


def _bits(size: int) -> int:
    return (size - 1).bit_length()
