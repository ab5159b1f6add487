"""Samples into one batch of static shapes: a flat buffer of frames and rows of places.

No sample is padded to another's number of frames: plans point into one buffer that all samples of
the batch share. Several samples can stand in one row as segments 1, 2, ...; segment 0 is padding.
Place i sees place j where j stands at or before i in the row, both are of the same segment (not 0),
and j is of the prefix (branch 0) or of i's branch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from vidlmm.layout.plan import Table, shift_frames
from vidlmm.layout.row import Row

Pixels = UInt8[np.ndarray, "_ _ _ 3"] | Float32[np.ndarray, "_ _ _ 3"]  # [f, H, W, 3] of one sample


@dataclass(frozen=True)
class Batch:
    """What a device step reads; B rows of L places, F frames.

    The fields are untyped because the same class holds numpy arrays on the host, device arrays, and
    shapes or shardings when a transformation maps over it.

    frames: uint8[F, H, W, 3] (float32 where a system normalises before it resizes); unused frames are 0.
    table, row: int32[B, L], see `Plan`; visual rows count over the whole frame buffer.
    position: int32[B, L], place in the separate sequence; 0 in padding.
    segment: int32[B, L], 0 in padding, samples of a row from 1.
    branch: int32[B, L], 0 for a segment's prefix, its branches from 1.
    target: int32[B, L], the id that is predicted; 0 where the weight is 0.
    weight: float32[B, L], weight of the prediction in the loss.
    """

    frames: Any
    table: Any
    row: Any
    position: Any
    segment: Any
    branch: Any
    target: Any
    weight: Any

    def arrays(self) -> dict[str, Any]:
        """The fields by name, in the order of BATCH_FIELDS."""
        return {name: getattr(self, name) for name in BATCH_FIELDS}


BATCH_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Batch))


def assemble(
    samples: Sequence[tuple[Row, Pixels]],
    rows: int,
    length: int,
    frames: int,
    grids: Sequence[int],
    assignment: Sequence[int] | None = None,
) -> Batch:
    """A batch of exactly `rows` x `length` places and `frames` frames.

    Args:
        samples: a row and its frames [f, H, W, 3] each; f = 0 for text alone.
        rows, length, frames: the static shapes.
        grids: cells a side on each level (`ModelSpec.grids`).
        assignment: the row in which each sample stands (see `pack`); None puts sample i in row i.

    Raises:
        ValueError: no sample, or samples do not fit into the shapes, or a row does not belong to
            its frames or to these grids.
    """
    if not samples:
        raise ValueError("a batch needs at least one sample, got none")
    assignment = range(len(samples)) if assignment is None else assignment
    if len(assignment) != len(samples):
        raise ValueError(f"{len(assignment)} rows are assigned for {len(samples)} samples; give one each")
    cells = tuple(side * side for side in grids)
    buffer = _frame_buffer([pixels for _, pixels in samples], frames)
    places = {name: np.zeros((rows, length), np.int32) for name in BATCH_FIELDS[1:-1]}
    weight = np.zeros((rows, length), np.float32)
    used, segments, offset = [0] * rows, [0] * rows, 0
    for number, ((sample, pixels), at) in enumerate(zip(samples, assignment, strict=True)):
        _check_sample(number, sample, len(pixels), cells)
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
        places["row"][at, span] = shift_frames(sample.table, sample.row, cells, offset)
        places["position"][at, span] = sample.position
        places["segment"][at, span] = segments[at]
        places["branch"][at, span] = sample.branch
        places["target"][at, span] = sample.target
        weight[at, span] = sample.weight
        used[at], offset = span.stop, offset + sample.frames
    return Batch(frames=buffer, **places, weight=weight)


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


def _frame_buffer(clips: Sequence[Pixels], frames: int) -> np.ndarray:
    """The samples' frames one after the other, filled up with zeros."""
    total = sum(len(clip) for clip in clips)
    if total > frames:
        raise ValueError(f"the samples bring {total} frames, the buffer holds {frames}; use a larger bucket")
    # Clips without frames say nothing about the size, unless no clip has any.
    filled = [clip for clip in clips if len(clip)]
    kinds = {(clip.shape[1:], clip.dtype) for clip in filled or clips[:1]}
    if len(kinds) > 1:
        found = sorted(f"{dtype}{list(shape)}" for shape, dtype in kinds)
        raise ValueError(f"the frames of a batch must be of one size and type, got {', '.join(found)}")
    shape, dtype = kinds.pop()
    buffer = np.zeros((frames, *shape), dtype)
    if filled:
        np.concatenate(filled, out=buffer[:total])
    return buffer


def _check_sample(number: int, sample: Row, frames: int, cells: tuple[int, ...]) -> None:
    if sample.frames != frames:
        raise ValueError(f"the row of sample {number} shows {sample.frames} frames, {frames} came with it")
    visual = sample.table >= Table.VISUAL
    levels = sample.table[visual] - Table.VISUAL
    if len(levels) and levels.max() >= len(cells):
        raise ValueError(f"sample {number} uses visual level {levels.max()}, the grids have {len(cells)}")
    limit = frames * np.asarray(cells, np.int32)[levels]
    if (sample.row[visual] >= limit).any():
        raise ValueError(
            f"the row of sample {number} points past its {frames} frame(s) of {cells} cells; "
            "lay it out with the same spec as the batch"
        )
