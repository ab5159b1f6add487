"""How often the loops turn whose length a program decides while it runs, and how much of their work kernels do."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from vidlmm.kernels.tree_attention.rule import Ids
from vidlmm.kernels.tree_attention.tpu import KERNEL, Setup, steps
from vidlmm.kernels.tree_attention.xla import PAIRS, chunk_pairs
from vidlmm.losses.cross_entropy import CHUNKS
from vidlmm.models.experts import LARGEST_PIECE, PIECES, SMALLEST_PIECE
from vidlmm.parallel.rules import BATCH
from vidlmm.plan.hlo import Instruction
from vidlmm.plan.workload import Workload
from vidlmm.spec import DecoderSpec


@dataclass(frozen=True)
class Loops:
    """pairs: pairs of chunks that the attention of rows goes through, on the device with the most. pieces: of an
    expert, where all experts have the same number of tokens. chunks: of trained tokens in the loss. others: turns of
    any further loop. meetings: pairs of blocks that the attention's kernel goes through, by those that it declares."""

    pairs: int
    pieces: int
    chunks: int = 1
    others: int = 1
    meetings: float = 1.0

    def turns(self) -> Callable[[Instruction], float]:
        """How often a loop turns, by its origin."""

        def found(loop: Instruction) -> float:
            if PAIRS in loop.origin:
                return float(self.pairs)
            named = {PIECES: self.pieces, CHUNKS: self.chunks}
            return float(next((turns for name, turns in named.items() if name in loop.origin), self.others))

        return found

    def share(self, call: Instruction) -> float:
        """Of what a kernel declares, how much its data ask for."""
        return self.meetings if KERNEL in call.origin else 1.0


def loops_of(work: Workload, platform: str) -> Loops:
    """The loops of a train step whose rows are full, on devices of a platform."""
    stage, mesh = work.stage, work.mesh
    rows = stage.rows // int(np.prod([mesh[axis] for axis in BATCH]))
    # Devices that hold parts of the vocabulary share the tokens of their rows.
    scored = rows * work.trained_places / mesh["context"] / mesh["tensor"]
    chunks = math.ceil(scored / work.settings["loss_chunk"])
    parts = mesh["context"]
    return Loops(
        rows * _pairs(stage.length, work.samples, parts, platform),
        _pieces(work, rows),
        chunks,
        meetings=_meetings(work.spec.decoder, stage.length, work.samples, parts),
    )


def prompt_loops(length: int, platform: str, before: int = 0) -> Loops:
    """The loops of reading one prompt, or `length` places of it behind others."""
    with jax.default_device(jax.devices("cpu")[0]):
        keys = _ids(before + length, 1)
        queries = Ids(*(x[:, before:] for x in keys))
        return Loops(int(chunk_pairs(queries, keys, platform)), 1)


def _pairs(length: int, samples: int, parts: int, platform: str) -> int:
    """Pairs of chunks of a row of equal samples; the last of `parts` equal parts has the most."""
    with jax.default_device(jax.devices("cpu")[0]):
        keys = _ids(length, samples)
        return max(int(chunk_pairs(queries, keys, platform)) for queries in _cut(keys, parts))


def _meetings(decoder: DecoderSpec, length: int, samples: int, parts: int) -> float:
    """As `_pairs`, of the kernel's blocks, by those of a row of one sample."""
    groups, depth = decoder.heads // decoder.kv_heads, decoder.dim_per_head
    q, k = (
        jax.ShapeDtypeStruct(shape, jax.numpy.bfloat16)
        for shape in ((1, 1, groups, length // parts, depth), (1, 1, length, depth))
    )
    if not Setup().takes(q, k):
        return 1.0
    with jax.default_device(jax.devices("cpu")[0]):
        many, one = (
            max(int(steps(queries, keys, Setup().sizes(q, k))) for queries in _cut(keys, parts))
            for keys in (_ids(length, samples), _ids(length, 1))
        )
    return many / one


def _ids(length: int, samples: int) -> Ids:
    """Of a row of equal samples."""
    place = np.arange(length, dtype=np.int32)[None]
    segment = 1 + np.minimum(place // (length // samples), samples - 1)
    return Ids(*(jax.numpy.asarray(x) for x in (place, segment, np.zeros_like(place))))


def _cut(keys: Ids, parts: int) -> list[Ids]:
    size = keys.place.shape[1] // parts
    return [Ids(*(x[:, part * size : (part + 1) * size] for x in keys)) for part in range(parts)]


def _pieces(work: Workload, rows: int) -> int:
    decoder = work.spec.decoder
    if not decoder.experts:
        return 1
    length = work.stage.length // work.mesh["context"]
    own = decoder.experts // work.mesh["expert"]
    piece = min(length, LARGEST_PIECE, max(SMALLEST_PIECE, length * decoder.top_k // own))
    return -(-(length * decoder.top_k // decoder.experts) // piece)
