"""Pictures of token layouts, drawn from the plans that the models read: docs/images/layout_*.svg.

    python docs/draw_layouts.py

A system is drawn with few frames of few patches, so that every token is seen; its full size stands above the
drawing. Each square is one place of the sequence: squares, letters and counts come from `vidlmm.layout`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby
from pathlib import Path

import numpy as np

from vidlmm.layout import Item, Row, Table, item_plan, lay_out
from vidlmm.layout.drawing import letter
from vidlmm.layout.row import AUDIO, IMAGE, VIDEO
from vidlmm.spec import SYSTEMS, ModelSpec, PixelSpec, stc_tokens

IMAGES = Path(__file__).parent / "images"
TAGS = {"video": VIDEO, "image": IMAGE, "audio": AUDIO}


@dataclass(frozen=True)
class Kind:
    """What a square stands for: colour, words of the legend, and a letter where colour alone would not tell."""

    colour: str
    legend: str
    mark: str = ""


TEXT = Kind("#c9d1d9", "text")
FRAMING = Kind("#57606a", "learned token around a block", "m")
FRAME = Kind("#3b76b0", "patch of a frame")
SLOW = Kind("#3b76b0", "patch of a slow frame")
WHOLE = Kind("#3b76b0", "patch of the whole picture")
FAST = Kind("#94bfe0", "patch of a fast frame")
TILES = Kind("#94bfe0", "patch of a tile")
CLIP = Kind("#2f8177", "patch of several frames")
CLASS = Kind("#77539b", "class token of a frame", "c")
SOUND = Kind("#b0568d", "sound, a time step a line")
NEWLINE = Kind("#c77f1a", "newline", "n")
FASTER = Kind("#bd4b31", "faster token", "f")
ACTION = Kind("#a11d3c", "action token", "a")
LEARNED = {"n": NEWLINE, "f": FASTER, "a": ACTION}


@dataclass(frozen=True)
class Place:
    """One square. block: name and number of the block that it stands in. line: its row there."""

    kind: Kind
    block: tuple[str, int]
    line: int = 0


@dataclass(frozen=True)
class Drawing:
    """A system that shows an item, drawn small, and at its full size."""

    title: str
    spec: ModelSpec
    item: Item
    real: ModelSpec
    real_item: Item


# ---- which square a place is ---------------------------------------------------------------------------------------


def row_of(spec: ModelSpec, item: Item) -> Row:
    """The item between a few tokens of text."""
    return lay_out(np.array([1, 2, 3, 4, TAGS[item.kind], 5, 6, 7, 8, 9, 10], np.int32), None, [item], spec)


def places(row: Row, spec: ModelSpec, item: Item) -> list[Place]:
    """Every place of the row, in order."""
    found: list[Place] = []
    learned = {id for _, id in spec.special_tokens}
    for table, number in zip(row.table.tolist(), row.row.tolist(), strict=True):
        before = found[-1] if found else Place(TEXT, ("", 0))
        if table == Table.TEXT:
            kind = FRAMING if number in learned else TEXT
            run = before.block[1] if before.kind is kind else len(found)
            found.append(Place(kind, ("text" if kind is TEXT else "", run)))
        elif table == Table.SPECIAL:
            kind = LEARNED[letter(table, number)]
            found.append(Place(kind, ("action", 0)) if kind is ACTION else replace(before, kind=kind))
        elif item.kind == "image" and number >= row.tables[table - Table.VISUAL].rows:
            lines = before.line + (before.kind is NEWLINE) if before.block[0] == "tiles" else 0
            found.append(Place(TILES, ("tiles", 0), lines))
        else:
            found.append(_seen(table - Table.VISUAL, number, row, spec, item))
    return found


def _seen(number: int, cell: int, row: Row, spec: ModelSpec, item: Item) -> Place:
    """The square of row `cell` of visual table `number`."""
    shape = row.tables[number]
    unit, inside = divmod(cell, shape.rows)
    line = inside // shape.columns
    if shape.unit == "sound":
        return Place(SOUND, ("sound", 0), line)
    if shape.unit == "clip" and spec.connector.stc is not None:
        _, high, wide = stc_tokens(item.frames, spec.tower.grid, spec.connector.stc)
        step, inside = divmod(inside, high * wide)
        return Place(CLIP, (f"step {step}", step), inside // wide)
    if shape.unit == "clip":
        return Place(CLIP, ("all frames", unit), line)
    if shape.rows == 1:
        return Place(CLASS, ("class tokens", 0))
    if item.kind == "image":
        return Place(WHOLE, ("whole picture", unit), line)
    if spec.tower.class_token and spec.tower.select == "all":
        # Row 0 is the class token; the patches stand in lines below it.
        block = (f"frame {unit}", unit)
        return Place(FRAME, block, 1 + (inside - 1) // shape.columns) if inside else Place(CLASS, block)
    if spec.connector.slowfast is not None:
        return Place(FAST if number else SLOW, (f"{unit}, {'fast' if number else 'slow'}", unit), line)
    return Place(FRAME, (f"frame {unit}", unit), line)


# ---- what is told above --------------------------------------------------------------------------------------------


def told(spec: ModelSpec, item: Item) -> str:
    """Sizes and the number of tokens."""
    grid = spec.tower.grid
    parts = [f"{item.frames} frame{'s' * (item.frames > 1)} of {grid} x {grid} patches"]
    if item.kind == "image":
        parts = [f"{item.size[0]} x {item.size[1]} pixels in {item.frames} views of {grid} x {grid} patches"]
    elif spec.connector.stc is not None:
        parts.append(
            "made {} x {} x {} (time, rows, columns)".format(*stc_tokens(item.frames, grid, spec.connector.stc))
        )
    elif spec.connector.slowfast is not None:
        slow, fast = spec.grids[:2]
        parts.append(f"slow ones pooled to {slow} x {slow}, fast ones to {fast} x {fast}")
    elif spec.connector.strides[0] > 1:
        parts.append(f"pooled to {spec.grids[0]} x {spec.grids[0]}")
    if item.sound:
        parts.append(f"sound of {item.sound} filter-bank frames")
    return f"{', '.join(parts)}: {len(item_plan(item, spec)):,} tokens"


# ---- squares on paper ----------------------------------------------------------------------------------------------

SIDE, GAP = 15, 2  # of a square and between squares
BETWEEN, ABOVE = 14, 16  # between blocks, and for the name above a block
MARGIN, WIDTH, LETTER = 20, 860, 5.8  # LETTER: width of a letter of 11 pixels
INK, QUIET, EDGE = "#1f2328", "#59636e", "#d0d7de"
STEP = SIDE + GAP


def svg(drawing: Drawing) -> str:
    """The picture as text."""
    row = row_of(drawing.spec, drawing.item)
    all_places = places(row, drawing.spec, drawing.item)
    parts, bottom = _blocks(all_places, 78)
    kinds = list(dict.fromkeys(place.kind for place in all_places))
    legend, height = _legend(kinds, bottom + 6)
    words = f"{drawing.title}. Drawn: {told(drawing.spec, drawing.item)}."
    head = [
        _words(MARGIN, 28, drawing.title, size=15, weight="600"),
        _words(MARGIN, 46, f"Full size: {told(drawing.real, drawing.real_item)}", colour=QUIET, size=12),
        _words(MARGIN, 62, f"Drawn here: {told(drawing.spec, drawing.item)}", colour=QUIET, size=12),
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img" font-family="-apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
            f"<title>{escape(words)}</title>",
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" fill="#ffffff" stroke="{EDGE}"/>',
            *head,
            *parts,
            *legend,
            "</svg>",
            "",
        ]
    )


def _blocks(all_places: Sequence[Place], top: int) -> tuple[list[str], int]:
    """Blocks from left to right, in several rows where they are many, and where they end."""
    parts: list[str] = []
    x, tallest = MARGIN, 0
    for (name, _), group in groupby(all_places, key=lambda place: place.block):
        lines = [list(line) for _, line in groupby(group, key=lambda place: place.line)]
        wide = max(max(map(len, lines)) * STEP - GAP, int(len(name) * LETTER))
        if x > MARGIN and x + wide > WIDTH - MARGIN:
            x, top, tallest = MARGIN, top + tallest + BETWEEN, 0
        parts.append(_words(x, top + 11, name, colour=QUIET))
        for number, line in enumerate(lines):
            for column, place in enumerate(line):
                parts.append(_square(place.kind, x + column * STEP, top + ABOVE + number * STEP))
        x += wide + BETWEEN
        tallest = max(tallest, ABOVE + len(lines) * STEP)
    return parts, top + tallest


def _legend(kinds: Sequence[Kind], top: int) -> tuple[list[str], int]:
    """What the colours mean, and the height of the whole."""
    top += BETWEEN
    parts = [f'<path d="M{MARGIN} {top - 10}H{WIDTH - MARGIN}" stroke="{EDGE}"/>']
    x = MARGIN
    for kind in kinds:
        wide = SIDE + 6 + int(len(kind.legend) * LETTER)
        parts += [_square(kind, x, top), _words(x + SIDE + 6, top + 11, kind.legend)]
        x += wide + 18
    reading = "Blocks are read from left to right, each line by line."
    return [*parts, _words(MARGIN, top + 32, reading, colour=QUIET)], top + 32 + MARGIN


def _square(kind: Kind, x: int, y: int) -> str:
    square = f'<rect x="{x}" y="{y}" width="{SIDE}" height="{SIDE}" rx="2" fill="{kind.colour}"/>'
    if not kind.mark:
        return square
    return square + (
        f'<text x="{x + SIDE / 2}" y="{y + SIDE - 4}" font-size="10" fill="#ffffff" text-anchor="middle">'
        f"{kind.mark}</text>"
    )


def _words(x: int, y: int, words: str, colour: str = INK, size: int = 11, weight: str = "400") -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{colour}">{escape(words)}</text>'


# ---- the systems ---------------------------------------------------------------------------------------------------


def small(spec: ModelSpec, grid: int) -> ModelSpec:
    """The system with a tower of grid x grid patches."""
    side = grid * spec.tower.patch_size
    return replace(spec, tower=replace(spec.tower, image_size=side), pixels=PixelSpec(size=side, tiles=2))


def video(title: str, name: str, frames: int, grid: int, sounds: tuple[int, int] = (0, 0)) -> Drawing:
    """A video of `frames` frames of grid x grid patches; sounds: filter-bank frames as drawn and at full size."""
    real = SYSTEMS[name]
    shown = Item("video", frames, sound=sounds[0])
    return Drawing(title, small(real, grid), shown, real, Item("video", real.frames.count, sound=sounds[1]))


def picture(title: str, name: str, grid: int, size: tuple[int, int], full: tuple[int, int]) -> Drawing:
    """A picture of `size` (width, height) in pixels on 2 x 2 tiles of grid x grid patches, and one of `full` pixels."""
    real = SYSTEMS[name]
    return Drawing(title, small(real, grid), Item("image", 5, size), real, Item("image", 5, full))


DRAWINGS: dict[str, Drawing] = {
    "llava_video": video("LLaVA-Video: a newline behind every grid row", "llava_video_7b_released", 4, 7),
    "llava_video_slowfast": video("LLaVA-Video 72B as in the paper: SlowFast", "llava_video_72b", 6, 8),
    "llava_onevision": video("LLaVA-OneVision, a video: one newline at the end", "llava_onevision_7b", 4, 7),
    "llava_onevision_picture": picture(
        "LLaVA-OneVision, a picture: the whole, then its tiles", "llava_onevision_7b", 5, (128, 100), (768, 600)
    ),
    "llavaction": video("LLaVAction: a token that the heads read", "llavaction_7b", 4, 7),
    "videollama2": video("VideoLLaMA 2: time and space together", "videollama2_7b_released", 8, 6),
    "videollama2_av": video(
        "VideoLLaMA 2.1-AV: sound follows the video", "videollama2_1_7b_av_released", 8, 8, (96, 2998)
    ),
    "valley": video("Valley: patches of all frames, then a token of each", "valley2_7b", 8, 5),
    "llava_hound": video("LLaVA-Hound: patches of eight frames", "llava_hound", 8, 4),
    "video_llava": video("Video-LLaVA: class tokens are kept", "video_llava_7b", 8, 4),
}


def main() -> None:
    """Writes all pictures."""
    IMAGES.mkdir(exist_ok=True)
    for name, drawing in DRAWINGS.items():
        path = IMAGES / f"layout_{name}.svg"
        path.write_text(svg(drawing))
        print(path)


if __name__ == "__main__":
    main()
