"""How often the loops turn whose length a program decides while it runs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from vidlmm.losses.cross_entropy import CHUNKS
from vidlmm.models.attention import PAIRS, Ids, chunk_pairs
from vidlmm.models.experts import LARGEST_PIECE, PIECES, SMALLEST_PIECE
from vidlmm.parallel.rules import BATCH
from vidlmm.plan.hlo import Instruction
from vidlmm.plan.workload import Workload


@dataclass(frozen=True)
class Loops:
    """pairs: pairs of chunks that the attention of rows goes through, on the device with the most. pieces: of an
    expert, where all experts have the same number of tokens. chunks: of trained tokens in the loss. others: turns of
    any further loop."""

    pairs: int
    pieces: int
    chunks: int = 1
    others: int = 1

    def turns(self) -> Callable[[Instruction], float]:
        """How often a loop turns, by its origin."""

        def found(loop: Instruction) -> float:
            if PAIRS in loop.origin:
                return float(self.pairs)
            named = {PIECES: self.pieces, CHUNKS: self.chunks}
            return float(next((turns for name, turns in named.items() if name in loop.origin), self.others))

        return found


def loops_of(work: Workload, platform: str) -> Loops:
    """The loops of a train step whose rows are full, on devices of a platform."""
    stage, mesh = work.stage, work.mesh
    rows = stage.rows // int(np.prod([mesh[axis] for axis in BATCH]))
    # Devices that hold parts of the vocabulary share the tokens of their rows.
    scored = rows * work.trained_places / mesh["context"] / mesh["tensor"]
    chunks = math.ceil(scored / work.settings["loss_chunk"])
    return Loops(_pairs(stage.length, work.samples, mesh["context"], platform), _pieces(work, rows), chunks)


def prompt_loops(length: int, platform: str) -> Loops:
    """The loops of reading one prompt."""
    return Loops(_pairs(length, 1, 1, platform), 1)


def _pairs(length: int, samples: int, parts: int, platform: str) -> int:
    """Pairs of chunks of a row of equal samples; the last of `parts` equal parts has the most."""
    with jax.default_device(jax.devices("cpu")[0]):
        place = np.arange(length, dtype=np.int32)[None]
        segment = 1 + np.minimum(place // (length // samples), samples - 1)
        keys = Ids(*(jax.numpy.asarray(x) for x in (place, segment, np.zeros_like(place))))
        size = length // parts
        cuts = [slice(part * size, (part + 1) * size) for part in range(parts)]
        return max(int(chunk_pairs(Ids(*(x[:, cut] for x in keys)), keys, platform)) for cut in cuts)


def _pieces(work: Workload, rows: int) -> int:
    decoder = work.spec.decoder
    if not decoder.experts:
        return 1
    length = work.stage.length // work.mesh["context"]
    own = decoder.experts // work.mesh["expert"]
    piece = min(length, LARGEST_PIECE, max(SMALLEST_PIECE, length * decoder.top_k // own))
    return -(-(length * decoder.top_k // decoder.experts) // piece)
