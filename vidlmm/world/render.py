"""Scripts into pixels."""

import math

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from vidlmm.world.motion import Shown, dots_at, shown_at
from vidlmm.world.script import Script

RGB = {
    "red": (225, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 90, 235),
    "yellow": (245, 220, 40),
    "purple": (165, 50, 200),
    "white": (250, 250, 250),
}
BACKGROUND = {"dark": (28, 28, 38), "grey": (125, 128, 130), "sand": (200, 172, 122)}
_DOT = {"dark": (95, 95, 110), "grey": (80, 82, 84), "sand": (146, 120, 80)}
_OVERSAMPLE = 2


def draw_frame(script: Script, t: float, side: int = 128) -> UInt8[np.ndarray, "S S 3"]:
    """The picture at time t (a share of the clip), `side` pixels square, antialiased."""
    big = side * _OVERSAMPLE
    image = Image.new("RGB", (big, big), BACKGROUND[script.background])
    pen = ImageDraw.Draw(image)
    for x, y, r in dots_at(script, t):
        pen.ellipse([(x - r) * big, (y - r) * big, (x + r) * big, (y + r) * big], fill=_DOT[script.background])
    for thing in shown_at(script, t):
        _draw(pen, thing, big)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def draw_clip(script: Script, fps: int = 12, side: int = 128) -> list[UInt8[np.ndarray, "S S 3"]]:
    """All frames of a clip; the first shows its beginning and the last its end."""
    count = round(script.duration * fps)
    return [draw_frame(script, n / (count - 1), side) for n in range(count)]


def _draw(pen: ImageDraw.ImageDraw, thing: Shown, big: int) -> None:
    x, y, r = thing.x * big, thing.y * big, thing.radius * big
    fill = RGB[thing.colour]
    if thing.shape == "circle":
        pen.ellipse([x - r, y - r, x + r, y + r], fill=fill)
    elif thing.shape == "square":
        s = 0.86 * r
        pen.rectangle([x - s, y - s, x + s, y + s], fill=fill)
    elif thing.shape == "triangle":
        pen.polygon([(x, y - r), (x + r, y + 0.85 * r), (x - r, y + 0.85 * r)], fill=fill)
    elif thing.shape == "star":
        points = []
        for k in range(10):
            reach = r * (1.1 if k % 2 == 0 else 0.45)
            angle = math.pi * (k / 5 - 0.5)
            points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
        pen.polygon(points, fill=fill)
    elif thing.shape == "cross":
        w = 0.36 * r
        pen.rectangle([x - r, y - w, x + r, y + w], fill=fill)
        pen.rectangle([x - w, y - r, x + w, y + r], fill=fill)
    elif thing.shape == "person":
        pen.ellipse([x - 0.34 * r, y - 1.1 * r, x + 0.34 * r, y - 0.42 * r], fill=fill)
        pen.line([(x, y - 0.5 * r), (x, y + 0.35 * r)], fill=fill, width=max(2, int(0.34 * r)))
        for dx in (-0.62, 0.62):
            pen.line([(x, y - 0.25 * r), (x + dx * r, y + 0.2 * r)], fill=fill, width=max(2, int(0.22 * r)))
            pen.line([(x, y + 0.3 * r), (x + 0.8 * dx * r, y + 1.1 * r)], fill=fill, width=max(2, int(0.26 * r)))
    else:
        raise ValueError(f"no drawing for shape {thing.shape!r}")
