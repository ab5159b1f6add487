"""Which records stand in which batch: a pure function of (records, seed, batch index).

Nothing here depends on the number of worker processes or on what was read before, so a position
is one integer, the global batch index, and every process can look up every batch.
"""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt64

from vidlmm.data.errors import DataError

# Bins that stay open while packing look at most this many samples ahead.
_LOOKAHEAD = 32


@runtime_checkable
class Order(Protocol):
    """The plan of a run's batches."""

    @property
    def records(self) -> int:
        """Number of records that are drawn from."""
        ...

    @property
    def seed(self) -> int: ...

    def batches(self) -> int | None:
        """Number of batches of the whole run; None if it has no end."""
        ...

    def draws(self, batch: int) -> tuple[int, ...]:
        """Record indices of a batch."""
        ...

    def stand_ins(self, record: int) -> Int64[np.ndarray, " n"]:
        """Records that may take the place of a bad one."""
        ...

    def key(self) -> str:
        """A digest of all that decides the order; positions carry over between equal keys only."""
        ...


def hashed(count: int, *key: int) -> UInt64[np.ndarray, " n"]:
    """`count` pseudo-random 64-bit numbers that depend on the integers of `key` alone.

    SplitMix64 (Steele, Lea, Flood 2014) and not a library's generator: the order of a run must not
    change with a library's version.
    """
    with np.errstate(over="ignore"):
        state = np.uint64(0)
        for part in key:
            state = _mix(np.array([state + np.uint64(part % 2**64)]))[0]
        steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return _mix(steps + state)


def _mix(x: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@functools.lru_cache(maxsize=4)
def shuffled(count: int, seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    """A permutation of range(count) that depends on (count, seed, epoch) alone."""
    order = np.argsort(hashed(count, seed, epoch), kind="stable").astype(np.int64)
    order.setflags(write=False)
    return order


@dataclass(frozen=True)
class FixedOrder:
    """`batch` records a batch; epochs follow each other without a gap, each in its own order.

    epochs: how often every record is drawn; None goes on for ever. The last batch may be short.
    content: a digest of the records; it is part of the key only.
    """

    records: int
    batch: int
    seed: int = 0
    epochs: int | None = None
    shuffle: bool = True
    content: str = ""

    def __post_init__(self) -> None:
        if self.records < 1 or self.batch < 1:
            raise DataError(f"expected at least one record and one a batch, got {self.records} and {self.batch}")

    def batches(self) -> int | None:
        return None if self.epochs is None else -(-self.records * self.epochs // self.batch)

    def draws(self, batch: int) -> tuple[int, ...]:
        first = batch * self.batch
        last = first + self.batch
        if self.epochs is not None:
            last = min(last, self.records * self.epochs)
        return tuple(self._draw(i) for i in range(first, last))

    def _draw(self, position: int) -> int:
        epoch, place = divmod(position, self.records)
        return int(shuffled(self.records, self.seed, epoch)[place]) if self.shuffle else place

    def stand_ins(self, record: int) -> Int64[np.ndarray, " n"]:
        return np.delete(np.arange(self.records, dtype=np.int64), record)

    def key(self) -> str:
        return digest("fixed", self.records, self.batch, self.seed, self.epochs, self.shuffle, self.content)


@dataclass(frozen=True)
class PackedOrder:
    """As many records a batch as fit: each epoch's order is filled into `rows` rows of `length` tokens.

    lengths, frames: tokens and frames that each record takes at most.
    budget: frames a batch holds.
    epochs, content: as in FixedOrder. An epoch begins with a new batch.

    The records of a batch come row by row, so that first-fit packing of them in this order always
    fits, also where some are shorter than planned.
    """

    lengths: Sequence[int]
    frames: Sequence[int]
    rows: int
    length: int
    budget: int
    seed: int = 0
    epochs: int | None = None
    shuffle: bool = True
    content: str = ""
    _epochs: dict[int, tuple[tuple[int, ...], ...]] = field(default_factory=dict, repr=False, compare=False)
    _starts: dict[int, int] = field(default_factory=lambda: {0: 0}, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not len(self.lengths):
            raise DataError("expected at least one record, got none")
        if max(self.lengths) > self.length or max(self.frames) > self.budget:
            raise DataError(
                f"a record takes {max(self.lengths)} tokens and one {max(self.frames)} frames, a batch holds rows "
                f"of {self.length} tokens and {self.budget} frames; raise the length or the frames"
            )

    def __getstate__(self) -> dict[str, object]:
        # Worker processes plan for themselves: the plans are larger than what they follow from.
        return {**self.__dict__, "_epochs": {}, "_starts": {0: 0}}

    @property
    def records(self) -> int:
        return len(self.lengths)

    def batches(self) -> int | None:
        return None if self.epochs is None else self._start(self.epochs)

    def draws(self, batch: int) -> tuple[int, ...]:
        epoch = 0
        while batch >= self._start(epoch + 1):
            epoch += 1
        return self.plan(epoch)[batch - self._start(epoch)]

    def _start(self, epoch: int) -> int:
        """The global index of an epoch's first batch."""
        for e in range(epoch):
            if e + 1 not in self._starts:
                self._starts[e + 1] = self._starts[e] + len(self.plan(e))
        return self._starts[epoch]

    def plan(self, epoch: int) -> tuple[tuple[int, ...], ...]:
        """The batches of one epoch."""
        found = self._epochs.get(epoch)
        if found is None:
            found = self._pack(epoch)
            for old in [e for e in list(self._epochs) if e < epoch - 1]:
                self._epochs.pop(old, None)
            self._epochs[epoch] = found
        return found

    def _pack(self, epoch: int) -> tuple[tuple[int, ...], ...]:
        order = shuffled(self.records, self.seed, epoch) if self.shuffle else np.arange(self.records)
        waiting = [int(i) for i in order[::-1]]
        batches = []
        while waiting:
            rows: list[list[int]] = [[] for _ in range(self.rows)]
            room, frames, passed = [self.length] * self.rows, self.budget, []
            while waiting and len(passed) < _LOOKAHEAD:
                record = waiting.pop()
                size = self.lengths[record]
                row = next((r for r in range(self.rows) if room[r] >= size), None)
                if row is None or self.frames[record] > frames:
                    passed.append(record)
                    continue
                rows[row].append(record)
                room[row] -= size
                frames -= self.frames[record]
            waiting += passed[::-1]
            batches.append(tuple(record for row in rows for record in row))
        return tuple(batches)

    def stand_ins(self, record: int) -> Int64[np.ndarray, " n"]:
        fits = (np.asarray(self.lengths) <= self.lengths[record]) & (np.asarray(self.frames) <= self.frames[record])
        fits[record] = False
        return np.flatnonzero(fits).astype(np.int64)

    def key(self) -> str:
        sizes = digest(np.asarray(self.lengths, np.int64).tobytes(), np.asarray(self.frames, np.int64).tobytes())
        return digest(
            "packed", sizes, self.rows, self.length, self.budget, self.seed, self.epochs, self.shuffle, self.content
        )


def digest(*parts: object) -> str:
    """A short digest of the values' representations."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
