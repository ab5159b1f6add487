"""Who sees whom in a row: for positions, and for blocks of them by their least and largest ids.

Position i sees position j when j stands at or before i in the row, both are of the same segment (0 is padding), and j
is of the shared prefix (branch 0) or of i's own branch. A position that sees nothing (padding) gets zeros.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

_FAR = jnp.iinfo(jnp.int32).max


class Ids(NamedTuple):
    """Where positions stand in their row and whom they belong to.

    place: counted over the whole row, also where these are a part of it. segment: 0 is padding. branch: 0 is the
        prefix.
    """

    place: Int[Array, "B n"]
    segment: Int[Array, "B n"]
    branch: Int[Array, "B n"]


def sight(segment: Int[Array, "B L"], branch: Int[Array, "B L"]) -> Ids:
    """The ids of all positions of whole rows, in order."""
    return Ids(jnp.broadcast_to(jnp.arange(segment.shape[1]), segment.shape), segment, branch)


def visible(queries: Ids, keys: Ids) -> Bool[Array, "B Q S"]:
    """The rule, for every query and key."""
    return meets(Ids(*(x[:, :, None] for x in queries)), Ids(*(x[:, None, :] for x in keys)))


def meets(q: Any, k: Any) -> Any:
    """The rule for ids that broadcast against each other."""
    same = (q.segment == k.segment) & (q.segment != 0)
    return (k.place <= q.place) & same & ((k.branch == 0) | (k.branch == q.branch))


class Spans(NamedTuple):
    """Of blocks of positions, each [*n].

    least, largest: ids, padding apart; a block of padding spans nothing. there: no position is padding.
    """

    least: Ids
    largest: Ids
    there: Bool[Array, "*n"]

    def at(self, index: Any) -> "Spans":
        """Every array indexed alike."""
        least, largest = (Ids(*(x[index] for x in ids)) for ids in (self.least, self.largest))
        return Spans(least, largest, self.there[index])


def spans(place: Int[Array, "*n C"], segment: Int[Array, "*n C"], branch: Int[Array, "*n C"]) -> Spans:
    """Of blocks along the last axis."""
    there = segment != 0
    ids = (place, segment, branch)
    least = Ids(*(jnp.min(x, axis=-1, initial=_FAR, where=there) for x in ids))
    largest = Ids(*(jnp.max(x, axis=-1, initial=-1, where=there) for x in ids))
    return Spans(least, largest, jnp.all(there, axis=-1))


def may_meet(q: Spans, k: Spans) -> Bool[Array, "*n"]:
    """Whether somebody of a block of queries may see somebody of a block of keys: a pair too many only costs time."""
    branch = (k.least.branch == 0) | _overlap(q, k, "branch")
    return (q.largest.place >= k.least.place) & _overlap(q, k, "segment") & branch


def all_meet(q: Spans, k: Spans) -> Bool[Array, "*n"]:
    """Whether everybody of a block of queries sees everybody of a block of keys; a pair too few only costs time."""
    segment = _one(q, "segment") & _one(k, "segment") & (q.least.segment == k.least.segment)
    own = _one(q, "branch") & _one(k, "branch") & (q.least.branch == k.least.branch)
    return q.there & k.there & (q.least.place >= k.largest.place) & segment & ((k.largest.branch == 0) | own)


def _overlap(q: Spans, k: Spans, name: str) -> Bool[Array, "*n"]:
    least, largest = (getattr(ids, name) for ids in q[:2])
    return (least <= getattr(k.largest, name)) & (getattr(k.least, name) <= largest)


def _one(x: Spans, name: str) -> Bool[Array, "*n"]:
    return getattr(x.least, name) == getattr(x.largest, name)
