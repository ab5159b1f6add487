"""Where everything of a script is at a moment: pure functions of the time."""

from dataclasses import dataclass

from vidlmm.world.script import Script, Thing

RADIUS = {"small": 0.09, "big": 0.15}
_PAN = 0.45  # how far a pan goes, in picture sides
_ZOOM = 2.0


@dataclass(frozen=True)
class Shown:
    """A thing as the camera sees it: centre and radius in shares of the picture's side."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float


def _share(thing: Thing, t: float) -> float:
    """How much of its action is done at time t (0 to 1 of the clip)."""
    if thing.stop <= thing.start:
        return float(t >= thing.start)
    return min(1.0, max(0.0, (t - thing.start) / (thing.stop - thing.start)))


def _wave(share: float, turns: int) -> float:
    """Position between two walls after `share` of turns + 1 legs: 0, 1, 0, …"""
    legs = share * (turns + 1)
    whole = int(legs)
    part = legs - whole
    return part if whole % 2 == 0 else 1.0 - part


def thing_at(thing: Thing, t: float) -> Shown | None:
    """The thing in the world's own frame at time t, None while it is not there."""
    share = _share(thing, t)
    if (thing.action == "appear" and share < 1.0) or (thing.action == "vanish" and share >= 1.0):
        return None
    colour = thing.becomes if thing.action == "recolour" and share >= 0.5 else thing.colour
    size, radius = thing.size, RADIUS[thing.size]
    if thing.action in ("grow", "shrink"):
        other = "big" if thing.size == "small" else "small"
        radius += share * (RADIUS[other] - radius)
        size = thing.size if share < 0.5 else other
    along = _wave(share, thing.turns) if thing.action == "bounce" else share
    (x0, y0), (x1, y1) = thing.path
    return Shown(thing.shape, colour, size, x0 + along * (x1 - x0), y0 + along * (y1 - y0), radius)


def camera_at(camera: str, t: float) -> tuple[float, float, float]:
    """Offset (x, y) of the view's centre from the picture's middle, and its magnification."""
    pan = _PAN * (t - 0.5)
    dx = {"left": -pan, "right": pan}.get(camera, 0.0)
    dy = {"up": -pan, "down": pan}.get(camera, 0.0)
    scale = {"zoom in": _ZOOM**t, "zoom out": _ZOOM ** (1.0 - t)}.get(camera, 1.0)
    return dx, dy, scale


def view(x: float, y: float, camera: tuple[float, float, float]) -> tuple[float, float]:
    """A point of the world as a point of the picture."""
    dx, dy, scale = camera
    return 0.5 + (x - 0.5 - dx) * scale, 0.5 + (y - 0.5 - dy) * scale


def shown_at(script: Script, t: float) -> tuple[Shown, ...]:
    """All things in the picture at time t (a share of the clip), in the script's order."""
    camera = camera_at(script.camera, t)
    shown = []
    for thing in script.things:
        now = thing_at(thing, t)
        if now is not None:
            x, y = view(now.x, now.y, camera)
            shown.append(Shown(now.shape, now.colour, now.size, x, y, now.radius * camera[2]))
    return tuple(shown)


def dots_at(script: Script, t: float) -> tuple[tuple[float, float, float], ...]:
    """The background's landmarks as (x, y, radius) of the picture at time t."""
    camera = camera_at(script.camera, t)
    return tuple((*view(x, y, camera), 0.022 * camera[2]) for x, y in script.dots)
