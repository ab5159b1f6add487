"""What the towers have seen and heard, kept for further questions about the same media."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from vidlmm.generate import programs
from vidlmm.generate.answers import Prompt
from vidlmm.layout.batch import assemble, exact_sizes
from vidlmm.layout.buckets import choose

Tables = tuple[Float[Array, "_ _"], ...]  # [P, D] of one piece of the media, one a visual table


class VisualMemory:
    """Visual tables by the content of the frames, the least recently used ones dropped first.

    A clip is encoded in pieces of the largest size and a last one of the smallest size that holds the rest, filled
    up with zeros: what it gives depends on its own frames alone.

    Args:
        graph, params: the model, as `flax.nnx.split` gives it.
        sizes: frames of a piece; each is compiled when it is first needed.
        most: bytes that are kept; the clip last asked for always is.
        window: frames that the tower looks at together (`TowerSpec.temporal`); pieces hold whole windows.
    """

    def __init__(self, graph: Any, params: Any, sizes: Sequence[int], most: int, window: int = 0) -> None:
        self._graph, self._params = graph, params
        window = window or 1
        self._sizes, self._most = tuple(sorted({-(-size // window) * window for size in sizes})), most
        self._kept: OrderedDict[str, list[Tables]] = OrderedDict()
        self.bytes = 0
        self.encoded = 0  # clips that went through the tower

    def tables(self, key: str, prompt: Prompt) -> list[Tables]:
        """The tables of a prompt's media, piece by piece; those of no media are empty.

        Args:
            key: `digest` of the media.
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        found = self.encode(prompt)
        self._kept[key] = found
        self.bytes += _size(found)
        while self.bytes > self._most and len(self._kept) > 1:
            self.bytes -= _size(self._kept.popitem(last=False)[1])
        return found

    def encode(self, prompt: Prompt) -> list[Tables]:
        """Like `tables`, but neither looked up nor kept."""
        frames, shows = prompt.frames, prompt.row.shows
        if shows.frames or shows.pictures or shows.sounds:
            self.encoded += 1
        if shows.clips or shows.pictures or shows.sounds:
            return [self._encode_whole(prompt)]
        if not len(frames):
            return [programs.encode(self._graph, self._params, frames)]
        pieces = []
        for start in range(0, len(frames), self._sizes[-1]):
            part = frames[start : start + self._sizes[-1]]
            piece = np.zeros((choose(len(part), self._sizes), *frames.shape[1:]), frames.dtype)
            piece[: len(part)] = part
            pieces.append(programs.encode(self._graph, self._params, piece))
        return pieces

    def _encode_whole(self, prompt: Prompt) -> Tables:
        """Tables of systems in which frames look at one another, or that see and hear more than frames."""
        sizes = exact_sizes(prompt.row.shows, prompt.sounds)
        count = prompt.row.frames
        batch = assemble([(prompt.row, prompt.media)], 1, len(prompt.row), count, prompt.row.tables, sizes=sizes)
        media = (batch.frames, batch.clips, batch.pictures, batch.sounds, batch.sound_frames)
        return programs.encode(self._graph, self._params, *media)


def digest(prompt: Prompt) -> str:
    """A name that prompts with equal media share and others do not."""
    shows = prompt.row.shows
    found = hashlib.blake2b(repr((shows.frames, shows.clips)).encode(), digest_size=16)
    for array in (prompt.frames, prompt.pictures, *prompt.sounds):
        found.update(repr((array.shape, array.dtype.str)).encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _size(pieces: list[Tables]) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(pieces))
