"""What a run reads: an iterator of batches with a position, and what it is made for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from vidlmm.spec import ModelSpec
from vidlmm.train.stage import Stage


@dataclass(frozen=True)
class Item:
    """A batch on the host: arrays by name (see `vidlmm.train.objectives`), and the ids of its samples.

    frames: how many of the frame buffer are some sample's; None where the source does not count them. videos: how many
    they are of.
    """

    arrays: dict[str, np.ndarray]
    ids: tuple[str, ...]
    frames: int | None = None
    videos: int = 0


@runtime_checkable
class Source(Protocol):
    """An iterator of batches that can go on from a saved position."""

    def __next__(self) -> Item: ...

    def batches_an_epoch(self) -> float:
        """Batches that one pass over the data takes."""
        ...

    def state(self) -> dict[str, Any]:
        """The position after the last batch, as JSON can hold it."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class TellsOrigins(Protocol):
    """A source whose batches have `origin`, an int32 [B, L] of places in these names."""

    def origins(self) -> tuple[tuple[str, str], ...]:
        """(data source, question type) of each number."""
        ...


@runtime_checkable
class PairsOfAnswers(Protocol):
    """A source of objective "preference" (`vidlmm.train.pair_source`). A pair's number is its place in all pairs."""

    @property
    def file(self) -> Path:
        """Where the reference's log-probabilities of all pairs are kept."""
        ...

    @property
    def pairs(self) -> int: ...

    @property
    def held(self) -> int:
        """Pairs that are measured and not trained on."""
        ...

    def measured(self) -> Iterator[Item]:
        """The held-out pairs, each once."""
        ...

    def everything(self, values: Float32[np.ndarray, "P 2 2"]) -> Iterator[tuple[int, int, Item]]:
        """(number, of how many) and batch of all pairs, without reference, from the first one on in which a pair has no
        number yet."""
        ...

    def refer(self, values: Float32[np.ndarray, "P 2 2"]) -> None:
        """Take the reference's log-probabilities, as `vidlmm.train.reference_file.Reference.values`."""
        ...

    def made_of(self, precision: str) -> dict[str, str]:
        """Digests of what, beside its weights, a reference's log-probabilities follow from."""
        ...


@dataclass(frozen=True)
class SourceContext:
    """What a source is made for.

    settings: the config's `data` part.
    process: (p, P), the source makes part p of P equal parts of every batch.
    plans: a folder in which what was found out about the data is kept for the run's later starts.
    """

    stage: Stage
    spec: ModelSpec
    tokenizer: Path
    seed: int
    settings: Mapping[str, Any]
    process: tuple[int, int] = (0, 1)
    plans: Path | None = None


SourceFactory = Callable[[SourceContext], Source]
