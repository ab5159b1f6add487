"""What places point into: units of the visual tables, and how their numbers change in a longer buffer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Int32

from vidlmm.spec.tables import Table, TableSpec

TableSpecs = tuple[TableSpec, ...]
TAPS = 4  # rows that a blend mixes
BLEND_STEP = 1024  # a static number of blends is a multiple of it


@dataclass(frozen=True, eq=False)
class Blends:
    """Rows that are weighted sums of rows of the table before theirs: a grid resampled bilinearly.

    taps: rows that are mixed, counted as the rows of a plan are. weights: their shares.
    """

    taps: Int32[np.ndarray, "m 4"] = field(default_factory=lambda: np.zeros((0, TAPS), np.int32))
    weights: Float32[np.ndarray, "m 4"] = field(default_factory=lambda: np.zeros((0, TAPS), np.float32))

    def __len__(self) -> int:
        return len(self.taps)


@dataclass(frozen=True)
class Shows:
    """The units that an item, a sample or a batch brings.

    frames: of the frame buffer; views of a picture count too, where the same tower sees them.
    clips: the frame numbers of each clip, in the order of time.
    pictures: of the picture buffer, in systems with a tower of their own for them.
    sounds: filter-bank frames of each sound.
    blends: see there.
    """

    frames: int = 0
    clips: tuple[tuple[int, ...], ...] = ()
    pictures: int = 0
    sounds: tuple[int, ...] = ()
    blends: Blends = field(default_factory=Blends)

    @property
    def units(self) -> dict[str, int]:
        """How many units of each kind."""
        return {
            "frame": self.frames,
            "clip": len(self.clips),
            "picture": self.pictures,
            "sound": len(self.sounds),
            "blend": len(self.blends),
        }

    @property
    def clip_length(self) -> int:
        """Frames of the longest clip."""
        return max((len(clip) for clip in self.clips), default=0)

    @property
    def sound_length(self) -> int:
        """Filter-bank frames of the longest sound."""
        return max(self.sounds, default=0)


def padded_blends(blends: Blends) -> tuple[Int32[np.ndarray, "M 4"], Float32[np.ndarray, "M 4"]]:
    """Taps and weights filled up with zeros to one of few numbers; none stay none."""
    room = -len(blends) % BLEND_STEP
    around = ((0, room), (0, 0))
    return np.pad(blends.taps, around), np.pad(blends.weights, around)


def widest(tables: Sequence[TableSpecs]) -> TableSpecs:
    """Tables that hold the longest clips and sounds of several plans.

    Raises:
        ValueError: plans of systems with other tables.
    """
    kinds = {tuple((t.unit, t.rows if t.unit in ("frame", "picture", "blend") else 0) for t in one) for one in tables}
    if len(kinds) > 1:
        found = " and ".join(str([f"{unit} {rows}" for unit, rows in kind]) for kind in sorted(kinds))
        raise ValueError(f"the items were laid out for different grids: tables {found}; use one spec")
    return tuple(max(column, key=lambda table: table.rows) for column in zip(*tables, strict=True))


def together(shown: Sequence[Shows], tables: TableSpecs, own: Sequence[TableSpecs]) -> Shows:
    """What several items bring, one after the other, counted by `tables`; `own` are the items' tables."""
    frames, clips, taps = 0, [], [np.zeros((0, TAPS), np.int32)]
    for one, theirs in zip(shown, own, strict=True):
        clips += [tuple(frame + frames for frame in clip) for clip in one.clips]
        if len(one.blends):
            number = blended(theirs)
            source = np.full_like(one.blends.taps, Table.VISUAL + number)
            taps.append(renumber(source, one.blends.taps, theirs, tables, {"frame": frames}))
        frames += one.frames
    return Shows(
        frames=frames,
        clips=tuple(clips),
        pictures=sum(one.pictures for one in shown),
        sounds=tuple(length for one in shown for length in one.sounds),
        blends=Blends(np.concatenate(taps), np.concatenate([Blends().weights, *(one.blends.weights for one in shown)])),
    )


def blended(tables: TableSpecs) -> int:
    """The number of the table whose rows blends mix: the one before theirs."""
    return [table.unit for table in tables].index("blend") - 1


def renumber(
    table: Int32[np.ndarray, "*l"],
    row: Int32[np.ndarray, "*l"],
    old: TableSpecs,
    new: TableSpecs,
    before: dict[str, int],
) -> Int32[np.ndarray, "*l"]:
    """Rows of the same places in a longer buffer.

    Args:
        table, row: places of an item or a sample, counted by `old`.
        new: the tables of the buffer; its clips and sounds may be longer.
        before: units of each kind that stand in the buffer before the item's first.
    """
    moved = row.copy()
    for number, (was, now) in enumerate(zip(old, new, strict=True)):
        here = table == Table.VISUAL + number
        if was.rows and here.any():
            unit, place = np.divmod(row[here], was.rows)
            moved[here] = (unit + before.get(now.unit, 0)) * now.rows + place
    return moved
