"""A run of `pair_run.config` in a process of its own, which dies at a chosen moment.

python -m tests.train.pair_child RUN PAIRS MOMENT COUNT
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from tests.train import pair_run
from tests.train.child import die_at
from vidlmm.train import pair_stage
from vidlmm.train.loop import train
from vidlmm.train.pair_source import PairSource
from vidlmm.train.sources import Item

T = TypeVar("T")
# While the reference is computed: a batch is read for it; its table is written and has no name yet.
REFERENCE_MOMENTS = ("reference", "table")
# Afterwards: a batch is read to train on, or of held-out pairs; a checkpoint is begun; it has no name yet.
STEP_MOMENTS = ("batch", "held", "save", "meta")


class Countdown:
    """Kills the process when `moment` has come so many times."""

    moment, left = "", 0

    @classmethod
    def reached(cls, moment: str) -> None:
        cls.left -= moment == cls.moment
        if moment == cls.moment and not cls.left:
            os.kill(os.getpid(), signal.SIGKILL)


class Mortal(PairSource):
    """A source of pairs that says what it does."""

    def __next__(self) -> Item:
        Countdown.reached("batch")
        return super().__next__()

    def everything(self, values: Any) -> Iterator[tuple[int, int, Item]]:
        return _each("reference", super().everything(values))

    def measured(self) -> Iterator[Item]:
        return _each("held", super().measured())


def _each(moment: str, items: Iterator[T]) -> Iterator[T]:
    for item in items:
        Countdown.reached(moment)
        yield item


def main(run: str, pairs: str, moment: str, count: str) -> None:
    Countdown.moment, Countdown.left = moment, int(count)
    die_at(moment, int(count))
    replace = os.replace

    def named(beside: Any, to: Any) -> None:
        if str(to).endswith(".npz"):
            Countdown.reached("table")
        replace(beside, to)

    os.replace = named  # type: ignore[assignment]
    pair_stage._SAVE_EVERY = 0.0  # the table is kept after every batch
    train(pair_run.config(Path(pairs)), run, Mortal)


if __name__ == "__main__":
    main(*sys.argv[1:])
