"""The words of the world: what things are, what they do, where they stand."""

from typing import Literal

SHAPES = ("circle", "square", "triangle", "star", "cross", "person")
COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SIZES = ("small", "big")
BACKGROUNDS = ("dark", "grey", "sand")

DIRECTIONS = ("left", "right", "up", "down")
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
ZOOMS = ("zoom in", "zoom out")

Action = Literal["left", "right", "up", "down", "still", "bounce", "grow", "shrink", "recolour", "appear", "vanish"]
ACTIONS: tuple[Action, ...] = (
    "left",
    "right",
    "up",
    "down",
    "bounce",
    "grow",
    "shrink",
    "recolour",
    "appear",
    "vanish",
    "still",
)
CAMERAS = ("still", *DIRECTIONS, *ZOOMS)

NUMBERS = ("zero", "one", "two", "three", "four", "five")


def place(x: float, y: float) -> str:
    """A point of the unit square (x to the right, y down) in words, on a 3 x 3 grid."""
    across = ("left", "middle", "right")[min(2, int(x * 3))]
    down = ("top", "middle", "bottom")[min(2, int(y * 3))]
    if down == across == "middle":
        return "in the middle"
    if down == "middle":
        return f"on the {across}"
    if across == "middle":
        return f"at the {down}"
    return f"at the {down} {across}"
