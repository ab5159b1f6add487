"""Samples into one batch of static shapes: flat buffers of media and rows of places.

No sample is padded to another's number of frames: plans point into buffers that all samples of the
batch share. Several samples can stand in one row as segments 1, 2, ...; segment 0 is padding.
Place i sees place j where j stands at or before i in the row, both are of the same segment (not 0),
and j is of the prefix (branch 0) or of i's branch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from vidlmm.layout.plan import Table
from vidlmm.layout.row import Row
from vidlmm.layout.shows import TAPS, Shows, TableSpecs, renumber, together

Pixels = UInt8[np.ndarray, "_ _ _ 3"] | Float32[np.ndarray, "_ _ _ 3"]  # [f, H, W, 3] of one sample
Fbank = Float32[np.ndarray, "_ _"]  # [t, mel] of one sound


def _no_pixels() -> np.ndarray:
    return np.zeros((0, 0, 0, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class Media:
    """What a sample shows: its frames [f, H, W, 3], pictures for a tower of their own, and filter banks of sounds."""

    frames: Pixels
    pictures: Pixels = field(default_factory=_no_pixels)
    sounds: tuple[Fbank, ...] = ()


@dataclass(frozen=True)
class Sizes:
    """Static shapes of what few systems have: C clips of T frames, P pictures, S sounds of A filter-bank frames of
    `mel` bins, M blends, K classes of a row."""

    clips: int = 0
    clip_length: int = 0
    pictures: int = 0
    sounds: int = 0
    sound_length: int = 0
    mel: int = 128
    blends: int = 0
    classes: int = 0


@dataclass(frozen=True)
class Batch:
    """What a device step reads; B rows of L places, F frames.

    The fields are untyped because the same class holds numpy arrays on the host, device arrays, and
    shapes or shardings when a transformation maps over it.

    frames: uint8[F, H, W, 3] (float32 where a system normalises before it resizes); unused frames are 0.
    table, row: int32[B, L], see `Plan`; visual rows count over the whole buffers.
    position: int32[B, L], place in the separate sequence; 0 in padding.
    segment: int32[B, L], 0 in padding, samples of a row from 1.
    branch: int32[B, L], 0 for a segment's prefix, its branches from 1.
    target: int32[B, L], the id that is predicted; 0 where the weight is 0.
    weight: float32[B, L], weight of the prediction in the loss.

    Empty in systems without them, see `Sizes` (None in a batch that is put together by hand):
    clips: int32[C, T], frame numbers of each clip, -1 behind its end. A picture that a system repeats is the same
        number T times, so that the tower sees it once.
    pictures: [P, h, w, 3], like frames, for a tower of their own.
    sounds: float32[S, A, mel], zeros behind their end. sound_frames: int32[S], true lengths.
    taps, shares: int32[M, 4] and float32[M, 4], rows of the unpooled frames' table and their weights.
    classes: int32[B, K], the class of each kind that heads read off the first clip of a row; -1 where it is not known.
    """

    frames: Any
    table: Any
    row: Any
    position: Any
    segment: Any
    branch: Any
    target: Any
    weight: Any
    clips: Any = None
    pictures: Any = None
    sounds: Any = None
    sound_frames: Any = None
    taps: Any = None
    shares: Any = None
    classes: Any = None

    def arrays(self) -> dict[str, Any]:
        """The fields by name, in the order of BATCH_FIELDS."""
        return {name: getattr(self, name) for name in BATCH_FIELDS}


BATCH_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Batch))
PLACE_FIELDS = ("table", "row", "position", "segment", "branch", "target")


def assemble(
    samples: Sequence[tuple[Row, Pixels | Media]],
    rows: int,
    length: int,
    frames: int,
    tables: TableSpecs,
    assignment: Sequence[int] | None = None,
    sizes: Sizes = Sizes(),
) -> Batch:
    """A batch of exactly `rows` x `length` places and `frames` frames.

    Args:
        samples: a row and what it shows each; frames alone [f, H, W, 3] stand for `Media(frames)`.
        rows, length, frames, sizes: the static shapes.
        tables: the visual tables of the batch (`ModelSpec.tables(sizes.clip_length, sizes.sound_length)`).
        assignment: the row in which each sample stands (see `pack`); None puts sample i in row i.

    Raises:
        ValueError: no sample, or samples do not fit into the shapes, or a row does not belong to
            its media or to these tables.
    """
    if not samples:
        raise ValueError("a batch needs at least one sample, got none")
    assignment = range(len(samples)) if assignment is None else assignment
    if len(assignment) != len(samples):
        raise ValueError(f"{len(assignment)} rows are assigned for {len(samples)} samples; give one each")
    media = [shown if isinstance(shown, Media) else Media(shown) for _, shown in samples]
    for number, (row, _) in enumerate(samples):
        _check_sample(number, row, media[number], tables)
    buffers = _buffers(media, [row for row, _ in samples], frames, sizes, tables)
    places = {name: np.zeros((rows, length), np.int32) for name in PLACE_FIELDS}
    weight = np.zeros((rows, length), np.float32)
    classes = np.full((rows, sizes.classes), -1, np.int32)
    used, segments, before = [0] * rows, [0] * rows, dict[str, int]()
    for number, ((sample, _), at) in enumerate(zip(samples, assignment, strict=True)):
        if not 0 <= at < rows:
            raise ValueError(f"sample {number} is assigned to row {at}, the batch has rows 0 to {rows - 1}")
        if used[at] + len(sample) > length:
            raise ValueError(
                f"sample {number} has {len(sample)} places and row {at} has {length - used[at]} of {length} "
                "left; use a longer bucket, fewer frames or `truncate`"
            )
        span = slice(used[at], used[at] + len(sample))
        segments[at] += 1
        places["table"][at, span] = sample.table
        places["row"][at, span] = renumber(
            sample.table, sample.row, sample.tables, tables[: len(sample.tables)], before
        )
        places["position"][at, span] = sample.position
        places["segment"][at, span] = segments[at]
        places["branch"][at, span] = sample.branch
        places["target"][at, span] = sample.target
        weight[at, span] = sample.weight
        if sample.classes:
            classes[at] = _classes(number, sample, segments[at], sizes)
        used[at] = span.stop
        before = {unit: before.get(unit, 0) + count for unit, count in sample.shows.units.items()}
    return Batch(**places, weight=weight, classes=classes, **buffers)


def exact_sizes(shows: Shows, sounds: Sequence[Fbank] = ()) -> Sizes:
    """Sizes that hold what is shown and no more."""
    return Sizes(
        clips=len(shows.clips),
        clip_length=shows.clip_length,
        pictures=shows.pictures,
        sounds=len(shows.sounds),
        sound_length=shows.sound_length,
        mel=sounds[0].shape[1] if sounds else Sizes.mel,
        blends=len(shows.blends),
    )


def pack(lengths: Sequence[int], length: int) -> tuple[int, ...]:
    """The row of each sample by first fit: the first row with room, in the order given.

    Args:
        lengths: places of each sample.
        length: places of a row.

    Raises:
        ValueError: a sample is longer than a row.
    """
    room: list[int] = []
    assignment = []
    for number, size in enumerate(lengths):
        if size > length:
            raise ValueError(f"sample {number} has {size} places, a row holds {length}")
        at = next((i for i, left in enumerate(room) if left >= size), len(room))
        if at == len(room):
            room.append(length)
        room[at] -= size
        assignment.append(at)
    return tuple(assignment)


def _buffers(
    media: Sequence[Media], rows: Sequence[Row], frames: int, sizes: Sizes, tables: TableSpecs
) -> dict[str, np.ndarray]:
    """Everything that is shown, one after the other, filled up with zeros (clips with -1)."""
    shown = [(row.shows, row.tables) for row in rows if row.tables]
    shows = together([one for one, _ in shown], tables, [own for _, own in shown])
    sounds = [sound for one in media for sound in one.sounds]
    _check_sizes(shows, sizes, sounds)
    clips = np.full((sizes.clips, sizes.clip_length), -1, np.int32)
    for number, clip in enumerate(shows.clips):
        clips[number, : len(clip)] = clip
    banks = np.zeros((sizes.sounds, sizes.sound_length, sizes.mel), np.float32)
    lengths = np.zeros(sizes.sounds, np.int32)
    for number, sound in enumerate(sounds):
        banks[number, : len(sound)], lengths[number] = sound, len(sound)
    taps, shares = np.zeros((sizes.blends, TAPS), np.int32), np.zeros((sizes.blends, TAPS), np.float32)
    taps[: len(shows.blends)], shares[: len(shows.blends)] = shows.blends.taps, shows.blends.weights
    return {
        "frames": _pixel_buffer([one.frames for one in media], frames, "frames"),
        "clips": clips,
        "pictures": _pixel_buffer([one.pictures for one in media], sizes.pictures, "pictures"),
        "sounds": banks,
        "sound_frames": lengths,
        "taps": taps,
        "shares": shares,
    }


def _pixel_buffer(clips: Sequence[Pixels], count: int, name: str) -> np.ndarray:
    """The samples' frames or pictures one after the other, filled up with zeros."""
    total = sum(len(clip) for clip in clips)
    if total > count:
        raise ValueError(f"the samples bring {total} {name}, the buffer holds {count}; use a larger bucket")
    # Clips without frames say nothing about the size, unless no clip has any.
    filled = [clip for clip in clips if len(clip)]
    kinds = {(clip.shape[1:], clip.dtype) for clip in filled or clips[:1]}
    if len(kinds) > 1:
        found = sorted(f"{dtype}{list(shape)}" for shape, dtype in kinds)
        raise ValueError(f"the {name} of a batch must be of one size and type, got {', '.join(found)}")
    shape, dtype = kinds.pop()
    buffer = np.zeros((count, *shape), dtype)
    if filled:
        np.concatenate(filled, out=buffer[:total])
    return buffer


def _check_sizes(shows: Shows, sizes: Sizes, sounds: Sequence[Fbank]) -> None:
    asked = {
        "clips": (len(shows.clips), sizes.clips),
        "frames of a clip": (shows.clip_length, sizes.clip_length),
        "sounds": (len(shows.sounds), sizes.sounds),
        "frames of a sound": (shows.sound_length, sizes.sound_length),
        "blends": (len(shows.blends), sizes.blends),
    }
    for name, (needed, held) in asked.items():
        if needed > held:
            raise ValueError(f"the samples bring {needed} {name}, the batch holds {held}; use a larger bucket")
    if any(sound.shape[1] != sizes.mel for sound in sounds):
        raise ValueError(f"sounds have {sorted({s.shape[1] for s in sounds})} filter-bank bins, expected {sizes.mel}")


def _classes(number: int, sample: Row, segment: int, sizes: Sizes) -> tuple[int, ...]:
    """A sample's classes, which are its row's: heads read one clip a row."""
    if len(sample.classes) != sizes.classes:
        raise ValueError(f"sample {number} has {len(sample.classes)} classes, the batch holds {sizes.classes} a row")
    if segment > 1:
        raise ValueError(f"sample {number} has classes and is not the first of its row; give such samples a row each")
    return sample.classes


def _check_sample(number: int, sample: Row, media: Media, tables: TableSpecs) -> None:
    shows, lengths = sample.shows, tuple(len(sound) for sound in media.sounds)
    if shows.frames != len(media.frames):
        raise ValueError(f"the row of sample {number} shows {shows.frames} frames, {len(media.frames)} came with it")
    if shows.pictures != len(media.pictures) or shows.sounds != lengths:
        raise ValueError(
            f"the row of sample {number} shows {shows.pictures} pictures and sounds of {shows.sounds} frames, "
            f"{len(media.pictures)} and {lengths} came with it"
        )
    visual = sample.table >= Table.VISUAL
    levels = sample.table[visual] - Table.VISUAL
    if len(levels) and levels.max() >= min(len(tables), len(sample.tables)):
        raise ValueError(
            f"sample {number} uses visual table {levels.max()}; it was laid out with {len(sample.tables)}, "
            f"the batch has {len(tables)}"
        )
    for own, theirs in zip(sample.tables, tables, strict=False):
        grows = own.unit in ("clip", "sound")
        if own.unit != theirs.unit or (own.rows > theirs.rows if grows else own.rows != theirs.rows):
            raise ValueError(
                f"sample {number} was laid out for {own.rows} rows a {own.unit}, the batch has {theirs.rows} "
                f"a {theirs.unit}; lay it out with the same spec as the batch"
            )
    for level, own in enumerate(sample.tables):
        rows = sample.row[visual][levels == level]
        if len(rows) and rows.max() >= shows.units[own.unit] * own.rows:
            raise ValueError(
                f"the row of sample {number} points past its {shows.units[own.unit]} {own.unit}(s) of {own.rows} rows"
            )
