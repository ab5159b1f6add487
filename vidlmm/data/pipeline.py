"""Records into training batches: `vidlmm.layout.Batch` of static shapes, resumable at any batch."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from vidlmm.data.errors import BadSample, DataError
from vidlmm.data.most import most_items, most_shown, static_sizes
from vidlmm.data.order import FixedOrder, Order, PackedOrder, digest
from vidlmm.data.records import Record
from vidlmm.data.sample import Loader, Sample, Turns, blamed_on, make_row
from vidlmm.data.stream import READING, TOLERANCE, Arrays, Reading, Source, Stream, Tolerance
from vidlmm.layout import Batch, Item, Row, Sizes, assemble, items_of, pack, stack
from vidlmm.media.sampling import FrameChoice
from vidlmm.media.shown import STILL
from vidlmm.spec import ModelSpec
from vidlmm.text.tokenizer import Tokenizer

# Rows that each process keeps in memory, at 24 bytes a place.
_KEPT_ROWS = 8192


@dataclass(frozen=True)
class Shapes:
    """The static shapes of a batch: `rows` x `length` places, and `frames` frames over all of them."""

    rows: int
    length: int
    frames: int

    def __post_init__(self) -> None:
        if min(self.rows, self.length) < 1 or self.frames < 0:
            raise DataError(f"a batch needs at least one row and one place, got {self}")


class Pipeline:
    """An iterator of batches over records, in an order that depends on the seed alone.

    Without `packed` a batch holds `shapes.rows` records, one a row. With it, a row holds as many
    records as fit, so that short ones waste no places; a batch then holds a varying number.

    Args:
        records: what is drawn from; every epoch draws each once, in a new order.
        spec, tokenizer: how records are written and seen.
        shapes: the static shapes. Frames a record shows at most: `spec.frames.count` a video, 1 a picture, but for
            a picture without others in systems with tiles, which shows all of its largest canvas. Clips, pictures,
            sounds and what else a system shows have the sizes that the records need at most.
        turns: see `make_sample`.
        packed: fill rows with several records. Needs every record's length beforehand, so all texts
            are tokenized at the start.
        overlong: what becomes of a record with more than `shapes.length` places: "error", or
            "truncate", which cuts it as LLaVA-NeXT does.
        seed, epochs, shuffle: the order; epochs None goes on for ever.
        loader: how media are opened (limits, cache of decoded frames).
        reading, tolerance: see there.

    Raises:
        DataError: shapes that no record or not every record can fit. While iterating also
            BadDataLimit, and DataError for a record that cannot be trained, with its file and place.
    """

    def __init__(
        self,
        records: Sequence[Record],
        spec: ModelSpec,
        tokenizer: Tokenizer,
        shapes: Shapes,
        *,
        turns: Turns = "conversation",
        packed: bool = False,
        overlong: Literal["error", "truncate"] = "error",
        seed: int = 0,
        epochs: int | None = None,
        shuffle: bool = True,
        loader: Loader | None = None,
        reading: Reading = READING,
        tolerance: Tolerance = TOLERANCE,
    ) -> None:
        if not records:
            raise DataError("expected at least one record, got none")
        if not spec.frames.count and any(media.kind == "video" for record in records for media in record.media):
            raise DataError("frames.count is 0, so a video has no most frames; batches of static shapes need a bound")
        if packed and spec.action is not None:
            raise DataError(f"the heads of {spec.name} read one clip a row, so rows cannot be packed; use packed=False")
        maker = _Maker(tuple(records), spec, tokenizer, shapes, turns, packed, overlong, loader or Loader(spec))
        found = [most_shown(record.media, spec) for record in records]
        order: Order
        if packed:
            lengths = tuple(maker.places(index) for index in range(len(records)))
            maker = replace(maker, sizes=static_sizes(found, lengths, shapes.rows, shapes.length, spec))
            order = PackedOrder(
                lengths=lengths,
                frames=tuple(one.frame for one in found),
                rows=shapes.rows,
                length=shapes.length,
                budget=shapes.frames,
                seed=seed,
                epochs=epochs,
                shuffle=shuffle,
                content=maker.key(),
            )
        else:
            maker.check_frames()
            maker = replace(maker, sizes=static_sizes(found, None, shapes.rows, shapes.length, spec))
            order = FixedOrder(len(records), shapes.rows, seed, epochs, shuffle, content=maker.key())
        self.spec, self.shapes = spec, shapes
        self._order = order
        self._stream = Stream(Source(maker.example, maker.collate, maker.name), order, reading, tolerance)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return Batch(**next(self._stream))

    @property
    def bad(self) -> list[BadSample]:
        """The records that could not be read so far, one report each; also logged, once each."""
        return self._stream.bad

    @property
    def shown(self) -> tuple[int, ...]:
        """Indices of the records in the last batch, stand-ins for bad ones included."""
        return self._stream.shown

    def batches(self) -> int | None:
        """Batches of all epochs; None if there is no end."""
        return self._order.batches()

    def batches_an_epoch(self) -> float:
        """Batches that one pass over the records takes."""
        if isinstance(self._order, PackedOrder):
            return float(len(self._order.plan(0)))
        return self._order.records / self.shapes.rows

    def state(self) -> dict[str, Any]:
        """The position after the last batch handed out; see `Stream.state`."""
        return self._stream.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved position, with any number of workers; see `Stream.restore`."""
        self._stream.restore(state)

    def close(self) -> None:
        """Stop reading ahead."""
        self._stream.close()

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class _Maker:
    """What a worker process needs to make batches."""

    records: tuple[Record, ...]
    spec: ModelSpec
    tokenizer: Tokenizer
    shapes: Shapes
    turns: Turns
    packed: bool
    overlong: str
    loader: Loader
    sizes: Sizes = Sizes()
    rows: dict[tuple[Any, ...], Row] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "rows": {}}

    def example(self, index: int) -> Sample:
        record = self.records[index]
        shown = self.loader.open_all(record)
        row = self._row(index, tuple(one.choice for one in shown), tuple(items_of(shown)))
        if row.frames > self._frames(record):
            with blamed_on(record):
                raise ValueError(f"shows {row.frames} frames, the spec allows {self._frames(record)}")
        return Sample(row=row, media=stack(shown, self.spec), id=record.id)

    def collate(self, samples: Sequence[Sample]) -> Arrays:
        pairs = [(s.row, s.media) for s in samples]
        rows = pack([len(row) for row, _ in pairs], self.shapes.length) if self.packed else None
        shapes, sizes = self.shapes, self.sizes
        tables = self.spec.tables(sizes.clip_length, sizes.sound_length)
        return assemble(pairs, shapes.rows, shapes.length, shapes.frames, tables, rows, sizes).arrays()

    def name(self, index: int) -> tuple[str, str]:
        return self.records[index].id, self.records[index].place

    def places(self, index: int) -> int:
        """Places that a record takes at most: its videos are taken as long and full."""
        media = self.records[index].media
        choices = tuple(_longest(self.spec) if m.kind == "video" else STILL for m in media)
        return len(self._row(index, choices, tuple(most_items(media, self.spec))))

    def _row(self, index: int, choices: tuple[FrameChoice, ...], items: tuple[Item, ...]) -> Row:
        """The record's row; kept, because writing down many branches takes as long as decoding a clip."""
        # Without times in the text, a row depends on the sizes of its media alone.
        told = self.spec.frames.time_text != "none"
        key = (index, choices if told else (), items)
        row = self.rows.get(key)
        if row is None:
            length = self.shapes.length
            cut = length if self.overlong == "truncate" else None
            record = self.records[index]
            row = make_row(record, choices, self.spec, self.tokenizer, items=items, turns=self.turns, length=cut)
            if len(row) > length:
                with blamed_on(record):
                    raise ValueError(
                        f"takes {len(row)} places, a row has {length}; use a longer row, fewer frames or "
                        'turns, or overlong="truncate"'
                    )
            if len(self.rows) < _KEPT_ROWS:
                self.rows[key] = row
        return row

    def check_frames(self) -> None:
        """A batch of the records with the most frames must fit."""
        most = sorted((self._frames(record) for record in self.records), reverse=True)[: self.shapes.rows]
        if sum(most) > self.shapes.frames:
            raise DataError(
                f"{self.shapes.rows} records can show {sum(most)} frames, a batch holds {self.shapes.frames}; "
                "give it more frames or fewer rows"
            )

    def _frames(self, record: Record) -> int:
        return most_shown(record.media, self.spec).frame

    def key(self) -> str:
        """A digest of the records, so that a position is not carried to other data."""
        parts = [(r.id, [m.path.rpartition("/")[2] for m in r.media], len(r.turns)) for r in self.records]
        return digest(parts, self.turns)


@functools.lru_cache(maxsize=8)
def _longest(spec: ModelSpec) -> FrameChoice:
    """A full choice whose times take as many digits as those of a clip of hours."""
    times = tuple(float(time) for time in np.linspace(1234.56, 9876.54, spec.frames.count))
    return FrameChoice(indices=tuple(range(spec.frames.count)), times=times, duration=9876.54, told=times)
