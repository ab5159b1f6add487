"""What records take before anything of them is decoded: places of a row, frames and other units.

Places follow from the text, the layout and `vidlmm.data.facts`. All texts are tokenized once, in worker processes
where there are many, and the counts are kept on disk for later runs. A record whose questions do not fit one row as
branches is split into several of the same media.
"""

import hashlib
import multiprocessing
import pickle
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from vidlmm.data.facts import Fact, Picture, facts_of
from vidlmm.data.kept import Kept, key_of
from vidlmm.data.most import Most, longest_choice, most_items, most_shown, sound_frames, together
from vidlmm.data.records import MediaRef, Record
from vidlmm.data.sample import Turns, blamed_on, encode_record, rounds_of, time_text_of
from vidlmm.layout import Item, item_plan, places_of, shared_length
from vidlmm.media.limits import Limits
from vidlmm.media.sampling import FrameChoice, choose_folder_frames, choose_frames, time_text
from vidlmm.media.shown import STILL
from vidlmm.spec import ModelSpec
from vidlmm.spec.pixels import best_resolution
from vidlmm.text.tokenizer import Tokenizer

Overlong = Literal["error", "truncate"]
# Of the way in which places are counted: a change of it makes the kept counts void.
_VERSION = 1
# Fewer records are counted in this process, and counted again in the next run.
_MANY = 2000
_AT_ONCE = 32768
_CHUNK = 256


@dataclass(frozen=True)
class Need:
    """What a record takes at most."""

    places: int
    most: Most


@dataclass(frozen=True)
class Planned:
    """The media of a record as far as they are known: at most so many frames and places."""

    choices: tuple[FrameChoice, ...]
    items: tuple[Item, ...]
    most: Most
    told: tuple[str, ...]  # the sentence about each one's times


@dataclass(frozen=True)
class Counting:
    """How places are counted. workers: processes; folder: where counts are kept, None for nowhere."""

    spec: ModelSpec
    tokenizer: Tokenizer
    turns: Turns
    limits: Limits = Limits()
    workers: int = 0
    folder: Path | None = None


def plan_records(
    records: Sequence[Record], counting: Counting, length: int, overlong: Overlong
) -> tuple[list[Record], list[Need]]:
    """The records with trees that fit a row of `length` places, and what each takes at most.

    Raises:
        DataError: a record that cannot be written, or under "error" one that does not fit; names file and place.
    """
    facts = facts_of(records, counting.spec, counting.limits, counting.folder)
    media = _Media(counting.spec)
    parts: list[Record] = []
    needs: list[Need] = []
    with _Places(counting) as places:
        # In pieces, because the times of all frames of a million videos would fill the memory.
        for first in range(0, len(records), _AT_ONCE):
            some = records[first : first + _AT_ONCE]
            planned = [media.plan(record, facts.get(first + number)) for number, record in enumerate(some)]
            for record, known, counts in zip(some, planned, places.count(some, planned), strict=True):
                for part, size in split_tree(record, counts, length):
                    if size > length and overlong == "error":
                        with blamed_on(record):
                            raise ValueError(
                                f"takes {size} places, a row has {length}; use a longer row, fewer frames or "
                                'turns, or overlong="truncate"'
                            )
                    parts.append(part)
                    needs.append(Need(min(size, length), known.most))
    return parts, needs


def split_tree(record: Record, counts: Sequence[int], length: int) -> list[tuple[Record, int]]:
    """The record, or records of some of its questions each, with the places that each takes.

    Questions stay in their order, and `record.together` of them in one part; each part takes as many as fit a row of
    `length` places, and at least so many.
    """
    shared, *branches = counts
    unit = record.together
    if shared + sum(branches) <= length or len(branches) <= unit:
        return [(record, sum(counts))]
    ends, room = [], 0
    for number in range(0, len(branches), unit):
        size = sum(branches[number : number + unit])
        if number and size <= room:
            room -= size
            ends[-1] = number + unit
        else:
            room = length - shared - size
            ends.append(number + unit)
    firsts = [0, *ends[:-1]]
    return [(rounds_of(record, a, b), shared + sum(branches[a:b])) for a, b in zip(firsts, ends, strict=True)]


class _Media:
    """What records show; few kinds of media differ, and a spec is slow to compare."""

    def __init__(self, spec: ModelSpec):
        self._spec = spec
        self._layouts = _Layouts(spec)
        self._most: dict[tuple[object, ...], Planned] = {}

    def plan(self, record: Record, facts: Mapping[int, Fact] | None) -> Planned:
        """What a record shows, exactly where `facts` tell of its media and else at most."""
        spec, told = self._spec, time_text_of(record, self._spec)
        kinds = (told, *((ref.kind, ref.heard) for ref in record.media))
        with blamed_on(record):
            if kinds not in self._most:
                choices = [longest_choice(spec) if ref.kind == "video" else STILL for ref in record.media]
                units = most_shown(record.media, spec)
                self._most[kinds] = _planned(choices, most_items(record.media, spec), units, record, spec)
            most = self._most[kinds]
            if facts is None:
                return most
            choices, items = list(most.choices), list(most.items)
            for place, fact in facts.items():
                choices[place], items[place] = _exact(fact, record.media[place], spec)
            units = [
                self._layouts.most(item) if place in facts else most_shown([record.media[place]], spec)
                for place, item in enumerate(items)
            ]
            return _planned(choices, items, together(units), record, spec)


def _exact(fact: Fact, ref: MediaRef, spec: ModelSpec) -> tuple[FrameChoice, Item]:
    """The frames that a video gives and the views that a picture is shown in."""
    if isinstance(fact, Picture):
        size = (fact.width, fact.height)
        width, height = best_resolution(size, spec.pixels.pinpoints)
        return STILL, Item("image", 1 + (width // spec.pixels.size) * (height // spec.pixels.size), size)
    if fact.fps is None:
        choice = choose_folder_frames(spec.frames, fact.frames)
        return choice, Item("video", len(choice.indices))
    choice = choose_frames(spec.frames, fact.frames, fact.fps)
    return choice, Item("video", len(choice.indices), sound=sound_frames(ref, spec))


def _planned(
    choices: Sequence[FrameChoice], items: Sequence[Item], most: Most, record: Record, spec: ModelSpec
) -> Planned:
    kind = time_text_of(record, spec)
    told = tuple(time_text(kind, choice) for choice in choices)
    return Planned(tuple(choices), tuple(items), most, told)


@dataclass(frozen=True)
class _Layouts:
    """Places and units of items; few items differ, and a spec is slow to compare."""

    spec: ModelSpec
    found: dict[Item, tuple[int, Most]] = field(default_factory=dict)

    def places(self, item: Item) -> int:
        return self._look(item)[0]

    def most(self, item: Item) -> Most:
        return self._look(item)[1]

    def _look(self, item: Item) -> tuple[int, Most]:
        if item not in self.found:
            plan = item_plan(item, self.spec)
            self.found[item] = len(plan), Most(**plan.shows.units)
        return self.found[item]


@dataclass(frozen=True)
class _Counter:
    """Counts the places of one record; what a worker process holds."""

    spec: ModelSpec
    tokenizer: Tokenizer
    turns: Turns
    layouts: _Layouts

    def __call__(self, job: tuple[Record, Planned]) -> tuple[int, ...]:
        record, known = job
        with blamed_on(record):
            encoded = encode_record(record, known.choices, self.spec, self.tokenizer, self.turns)
            if len(encoded) == 1:
                return (places_of(encoded[0].ids, known.items, self.spec, self.layouts.places),)
            shared = shared_length(encoded)
            media = sum(self.layouts.places(item) for item in known.items) - len(known.items)
            # Each branch begins with its own copy of the last shared place.
            return (shared + media - 1, *(len(each.ids) - shared + 1 for each in encoded))


class _Places:
    """Counts places, and keeps what it has counted when it is left.

    Of each record it finds one number, or of a tree those that all branches share and those of each branch.
    """

    def __init__(self, counting: Counting):
        self._counting = counting
        self._counter = _Counter(counting.spec, counting.tokenizer, counting.turns, _Layouts(counting.spec))
        self._file = None if counting.folder is None else counting.folder / f"places-{_identity(counting)}.npz"
        self._kept = Kept() if self._file is None else Kept.load(self._file)
        self._new: dict[int, tuple[int, ...]] = {}
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "_Places":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self._file is not None and kind is None and len(self._new) >= _MANY:
            keys = np.fromiter(self._new, np.uint64, len(self._new))
            self._kept.added(keys, list(self._new.values())).save(self._file)

    def count(self, records: Sequence[Record], planned: Sequence[Planned]) -> list[tuple[int, ...]]:
        """The places of each record."""
        jobs = list(zip(records, planned, strict=True))
        if self._file is None:
            return list(self._tally(jobs))
        keys = np.fromiter((_key(record, known) for record, known in jobs), np.uint64, len(jobs))
        found = self._kept.find(keys)
        missing = [number for number, row in enumerate(found) if row is None]
        tallied = dict(zip(missing, self._tally([jobs[number] for number in missing]), strict=True))
        self._new |= {int(keys[number]): row for number, row in tallied.items()}
        return [tallied[n] if row is None else tuple(map(int, row)) for n, row in enumerate(found)]

    def _tally(self, jobs: Sequence[tuple[Record, Planned]]) -> Iterable[tuple[int, ...]]:
        if len(jobs) < _MANY or self._counting.workers < 2:
            return map(self._counter, jobs)
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._counting.workers, context, _use, (self._counter,))
        return self._pool.map(_counted, jobs, chunksize=_CHUNK)


_IN_WORKER: list[_Counter] = []


def _use(counter: _Counter) -> None:
    _IN_WORKER[:] = [counter]


def _counted(job: tuple[Record, Planned]) -> tuple[int, ...]:
    return _IN_WORKER[0](job)


def _identity(counting: Counting) -> str:
    """A digest of all but the record that its places follow from."""
    settings = repr((_VERSION, asdict(counting.spec), counting.turns)).encode()
    return hashlib.sha256(settings + pickle.dumps(counting.tokenizer)).hexdigest()[:24]


def _key(record: Record, known: Planned) -> int:
    return key_of(*(f"{turn.role}: {turn.text}" for turn in record.turns), *known.told, repr(known.items))
