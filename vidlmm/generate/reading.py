"""Prompts are read in two parts: up to the end of what they show, and the text behind it.

    prompt a   system  video . . . . . . │ Why?            the prefix is read once for all prompts that share it,
    prompt b   system  video . . . . . . │ What moves?     the rest of each behind it

A prefix is read apart also where nobody shares it: an answer has the same bits in any company.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from vidlmm.generate import programs
from vidlmm.generate.answers import Prompt
from vidlmm.generate.programs import Reading
from vidlmm.generate.visual import VisualMemory, digest
from vidlmm.layout.buckets import choose, ladder
from vidlmm.layout.row import Row
from vidlmm.layout.shows import padded_blends
from vidlmm.spec.tables import Table

SHORTEST_REST = 32  # places of the smallest bucket of the text behind the media


class Parts(NamedTuple):
    """What prompts share: names of the media, of the row up to `end` with them, and of the whole row with them.

    end: places of the prefix that is read apart; 0 reads the prompt as one.
    """

    media: str
    prefix: str
    whole: str
    end: int


class Reader:
    """Reads some prompts, and holds what it read last: one prefix and one whole prompt.

    Args:
        graph, params: the model, as `flax.nnx.split` gives it.
        visual: tables of their media.
        lengths: sizes in places of prefixes, and of prompts that are read as one.
        vocab: ids that are text.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        graph: Any,
        params: Any,
        visual: VisualMemory,
        lengths: Sequence[int],
        vocab: int,
    ) -> None:
        self.parts = parts_of(prompts)
        self._prompts, self._graph, self._params, self._visual = prompts, graph, params, visual
        self._lengths, self._vocab = lengths, vocab
        self._rests = ladder(min(SHORTEST_REST, lengths[-1]), lengths[-1])
        self._prefix: tuple[str, Reading] | None = None
        self._whole: tuple[str, Reading] | None = None

    def read(self, number: int) -> Reading:
        """Prompt `number` and its media. What it shares with the one before is not read again."""
        prompt, parts = self._prompts[number], self.parts[number]
        if self._whole is None or self._whole[0] != parts.whole:
            self._whole = None
            self._whole = parts.whole, self._read(prompt, parts)
        return self._whole[1]

    def _read(self, prompt: Prompt, parts: Parts) -> Reading:
        if not parts.end:
            return self._places(prompt, parts.media, len(prompt.row))
        if self._prefix is None or self._prefix[0] != parts.prefix:
            self._prefix = None
            self._prefix = parts.prefix, self._places(prompt, parts.media, parts.end)
        rest = prompt.row.row[parts.end :]
        ids = np.zeros(choose(len(rest), self._rests), np.int32)
        ids[: len(rest)] = rest
        return programs.extend(self._graph, self._params, self._prefix[1], ids, np.int32(len(rest)), vocab=self._vocab)

    def _places(self, prompt: Prompt, media: str, count: int) -> Reading:
        """The first `count` places."""
        table, row = np.zeros((2, choose(count, self._lengths)), np.int32)
        table[:count], row[:count] = prompt.row.table[:count], prompt.row.row[:count]
        taps, shares = padded_blends(prompt.row.shows.blends)
        tables = self._visual.tables(media, prompt)
        embeds = programs.embed(self._graph, self._params, table, row, tables, taps, shares)
        return programs.read(self._graph, self._params, embeds, np.int32(count), vocab=self._vocab)


def parts_of(prompts: Sequence[Prompt]) -> list[Parts]:
    """The parts of each; an array of pixels or sounds that several share is looked at once."""
    known: dict[tuple[Any, ...], str] = {}
    found = []
    for prompt in prompts:
        shows = prompt.row.shows
        arrays = (prompt.frames, prompt.pictures, *prompt.sounds)
        key = (shows.frames, shows.clips, *map(id, arrays))
        if key not in known:
            known[key] = digest(prompt)
        found.append(_parts(prompt.row, known[key]))
    return found


def media_end(row: Row) -> int:
    """Places up to the end of what a row shows; 0 where it shows nothing or nothing stands behind it."""
    shown = np.flatnonzero(row.table != Table.TEXT)
    end = int(shown[-1]) + 1 if len(shown) else 0
    return end if end < len(row) else 0


def _parts(row: Row, media: str) -> Parts:
    end = media_end(row)
    seen = blake2b(media.encode(), digest_size=16)
    for array in (row.shows.blends.taps, row.shows.blends.weights, row.table[:end], row.row[:end]):
        seen.update(repr(array.shape).encode())
        seen.update(np.ascontiguousarray(array).data)
    prefix = seen.hexdigest()
    for array in (row.table[end:], row.row[end:]):
        seen.update(np.ascontiguousarray(array).data)
    return Parts(media, prefix, seen.hexdigest(), end)
