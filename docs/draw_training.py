"""Pictures of training rows, drawn from the code that makes them: docs/images/training_*.svg.

python docs/draw_training.py
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from vidlmm.data.packing import WINDOW, Room, fill_rows
from vidlmm.kernels.tree_attention.rule import sight, visible
from vidlmm.layout import Row, assemble, tree, video_plan
from vidlmm.spec import ConnectorSpec, ModelSpec, PixelSpec, TowerSpec
from vidlmm.text import Encoded

IMAGES = Path(__file__).parent / "images"
SPEC = ModelSpec(
    name="small",
    tower=TowerSpec(image_size=28, patch_size=14, width=8, layers=1, heads=1, mlp=8),
    connector=ConnectorSpec(newline="one_token", pool_mode="average", pool_stride=1),
    pixels=PixelSpec(size=28),
)
VIDEO = -201
PREFIX = {1: "#3b76b0", 2: "#2f8177"}  # by segment
BRANCHES = ("#c77f1a", "#77539b", "#bd4b31", "#a11d3c")
HIDDEN, PAD = "#eef1f4", "#d8dee4"
CELL = 11
PLACES, FRAMES = 16384, 80  # of a row


def sequence(*answer: int) -> Encoded:
    """A system token, a video, a question of two tokens and an answer."""
    ids = np.array([1, VIDEO, 2, 3, *answer], np.int32)
    labels = np.where(np.arange(len(ids)) < 4, -100, ids).astype(np.int32)
    return Encoded(ids=ids, labels=labels)


def trees() -> list[Row]:
    """Two videos: one frame with three questions, two frames with two."""
    first = tree([sequence(4, 5, 6), sequence(7, 8), sequence(9, 10, 11, 12)], [video_plan(1, SPEC)])
    second = tree([sequence(4, 5), sequence(6, 7, 8)], [video_plan(2, SPEC)])
    return [first, second]


def svg_tree() -> str:
    """A packed row of two trees above the matrix of who sees whom."""
    samples = trees()
    length = sum(len(row) for row in samples) + 3
    frames = [np.zeros((row.frames, 28, 28, 3), np.uint8) for row in samples]
    batch = assemble(list(zip(samples, frames, strict=True)), 1, length, 3, SPEC.tables(), assignment=[0, 0])
    segment, branch = batch.segment[0].tolist(), batch.branch[0].tolist()
    ids = sight(jnp.asarray(batch.segment), jnp.asarray(batch.branch))
    sees = np.asarray(visible(ids, ids))[0]
    colours = [_colour(s, b) for s, b in zip(segment, branch, strict=True)]
    left, top = 32, 88
    parts = [
        _text(16, 20, "A row with two trees, and who sees whom in it", 14, weight="600"),
        _text(16, 38, "blue, green: a video and what stands around it, once", 11),
        _text(16, 54, "other colours: an answer each, with its copy of the last shared token; grey: padding", 11),
    ]
    for at, colour in enumerate(colours):
        parts.append(_square(left + at * CELL, top - CELL - 4, colour))
        parts.append(_square(left - CELL - 4, top + at * CELL, colour))
        for key in range(length):
            parts.append(_square(left + key * CELL, top + at * CELL, colours[key] if sees[at, key] else HIDDEN))
    parts.append(
        _text(16, top + length * CELL + 18, "a line is a query; its coloured squares are the keys that it sees", 11)
    )
    return _page(left + length * CELL + 24, top + length * CELL + 32, parts)


def svg_packing() -> str:
    """The first rows that the packer fills with a mixture of videos, pictures and texts."""
    random = np.random.default_rng(0)
    kind = random.choice(3, 600, p=(0.6, 0.3, 0.1))
    seconds = np.minimum(np.ceil(5 + random.exponential(41, 600)), 64)
    frames = np.select([kind == 0, kind == 1], [seconds, 1], 0).astype(np.int64)
    text = random.lognormal(np.log(260), 0.5, 600).astype(np.int64)
    places = np.where(kind == 1, 2900, frames * 182) + text
    rows = fill_rows(np.arange(600), places, frames, Room(places=PLACES, frames=FRAMES), WINDOW)
    left, top, width, step = 32, 62, 640, 30
    parts = [
        _text(16, 20, f"Ten rows of {PLACES} places and {FRAMES} frames", 14, weight="600"),
        _text(
            16, 38, "blue: videos; brown: pictures; grey: texts. Above, places; below, frames of the same samples", 11
        ),
    ]
    for number in range(10):
        y = top + number * step
        parts.append(f'<rect x="{left}" y="{y}" width="{width}" height="12" fill="{HIDDEN}"/>')
        parts.append(f'<rect x="{left}" y="{y + 13}" width="{width}" height="6" fill="{HIDDEN}"/>')
        used = shown = 0
        for record in rows[number]:
            colour = (PREFIX[1], BRANCHES[0], "#57606a")[kind[record]]
            for start, size, room, at, height in (
                (used, places[record], PLACES, y, 12),
                (shown, frames[record], FRAMES, y + 13, 6),
            ):
                x, wide = left + width * start / room, width * size / room
                parts.append(
                    f'<rect x="{x:.1f}" y="{at}" width="{max(wide - 1, 0.5):.1f}" height="{height}" fill="{colour}"/>'
                )
            used, shown = used + int(places[record]), shown + int(frames[record])
    return _page(left + width + 24, top + 10 * step + 8, parts)


def _colour(segment: int, branch: int) -> str:
    if segment == 0:
        return PAD
    return PREFIX[segment] if branch == 0 else BRANCHES[(branch - 1) % len(BRANCHES)]


def _square(x: float, y: float, colour: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{CELL - 1}" height="{CELL - 1}" fill="{colour}"/>'


def _text(x: float, y: float, words: str, size: int, weight: str = "400") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" fill="#24292f">{escape(words)}</text>'


def _page(width: float, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" font-family="sans-serif">'
    )
    return "\n".join([head, f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>', *parts, "</svg>"]) + "\n"


DRAWINGS = {"training_tree": svg_tree, "training_packing": svg_packing}


def main() -> None:
    """Write all pictures."""
    for name, draw in DRAWINGS.items():
        (IMAGES / f"{name}.svg").write_text(draw())


if __name__ == "__main__":
    main()
