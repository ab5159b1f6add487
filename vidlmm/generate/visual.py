"""What the tower has seen, kept for further questions about the same frames."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from vidlmm.generate import programs
from vidlmm.layout.batch import Pixels
from vidlmm.layout.buckets import choose

Tables = tuple[Float[Array, "_ _"], ...]  # [P, D] of one piece of the frames, one a pooling level


class VisualMemory:
    """Visual tables by the content of the frames, the least recently used ones dropped first.

    A clip is encoded in pieces of the largest size and a last one of the smallest size that holds the rest, filled
    up with zeros: what it gives depends on its own frames alone.

    Args:
        graph, params: the model, as `flax.nnx.split` gives it.
        sizes: frames of a piece; each is compiled when it is first needed.
        most: bytes that are kept; the clip last asked for always is.
    """

    def __init__(self, graph: Any, params: Any, sizes: Sequence[int], most: int) -> None:
        self._graph, self._params = graph, params
        self._sizes, self._most = tuple(sorted(sizes)), most
        self._kept: OrderedDict[str, list[Tables]] = OrderedDict()
        self.bytes = 0
        self.encoded = 0  # clips that went through the tower

    def tables(self, key: str, frames: Pixels) -> list[Tables]:
        """The tables of a clip, piece by piece; those of no frames are empty.

        Args:
            key: `digest` of the frames.
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        found = self._encode(frames)
        self._kept[key] = found
        self.bytes += _size(found)
        while self.bytes > self._most and len(self._kept) > 1:
            self.bytes -= _size(self._kept.popitem(last=False)[1])
        return found

    def _encode(self, frames: Pixels) -> list[Tables]:
        if not len(frames):
            return [programs.encode(self._graph, self._params, frames)]
        self.encoded += 1
        pieces = []
        for start in range(0, len(frames), self._sizes[-1]):
            part = frames[start : start + self._sizes[-1]]
            piece = np.zeros((choose(len(part), self._sizes), *frames.shape[1:]), frames.dtype)
            piece[: len(part)] = part
            pieces.append(programs.encode(self._graph, self._params, piece))
        return pieces


def digest(frames: Pixels) -> str:
    """A name that equal frames share and others do not."""
    found = hashlib.blake2b(repr((frames.shape, frames.dtype.str)).encode(), digest_size=16)
    found.update(np.ascontiguousarray(frames).data)
    return found.hexdigest()


def _size(pieces: list[Tables]) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(pieces))
