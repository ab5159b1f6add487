"""A clip as a script: which things it shows, what each does and when, what the camera does.

Everything else of the world (pixels, sound, captions, questions, answers) follows from the script.
"""

from dataclasses import dataclass

import numpy as np

from vidlmm.world.words import (
    ACTIONS,
    BACKGROUNDS,
    CAMERAS,
    COLOURS,
    DIRECTIONS,
    OPPOSITE,
    SHAPES,
    SIZES,
    ZOOMS,
)

SPLITS = ("train", "validation", "heldout")
_MODULUS = 7  # a seventh of all combinations is held out, another seventh is for validation


@dataclass(frozen=True)
class Thing:
    """One object. Lengths are shares of the picture's side, times shares of the clip.

    start, stop: when its action begins and ends. path: from where to where its centre goes.
    turns: times a bouncing thing hits a wall. becomes: the colour after "recolour".
    pushed_by: index of the thing that sets it moving, -1 for none.
    """

    shape: str
    colour: str
    size: str
    action: str
    path: tuple[tuple[float, float], tuple[float, float]]
    start: float = 0.0
    stop: float = 1.0
    fast: bool = False
    turns: int = 0
    becomes: str = ""
    pushed_by: int = -1

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Script:
    """One clip.

    kind: the family it was drawn from. duration in seconds. dots: landmarks of the background.
    sound: whether it has an audio track.
    """

    id: str
    split: str
    kind: str
    things: tuple[Thing, ...]
    background: str
    dots: tuple[tuple[float, float], ...]
    camera: str = "still"
    duration: float = 3.0
    sound: bool = False


def combination_split(shape: str, colour: str, action: str) -> str:
    """The one split in which a shape of this colour does this (actions and camera moves alike)."""
    index = (*ACTIONS, *(f"camera {c}" for c in CAMERAS)).index(action)
    rest = (SHAPES.index(shape) + 2 * COLOURS.index(colour) + 3 * index) % _MODULUS
    return {0: "heldout", 1: "validation"}.get(rest, "train")


def write_script(seed: int, split: str, number: int) -> Script:
    """The script of one clip: a function of its seed, split and number alone.

    Raises:
        ValueError: an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; expected one of {SPLITS}")
    rng = np.random.default_rng([seed, SPLITS.index(split), number])
    kinds = tuple(_FAMILIES)
    weights = np.array([weight for weight, _ in _FAMILIES.values()])
    kind = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
    things, camera = _FAMILIES[kind][1](rng, split)
    dots = tuple((float(x), float(y)) for x, y in rng.uniform(0.05, 0.95, (5, 2)))
    return Script(
        id=f"{split}-{seed}-{number:05d}",
        split=split,
        kind=kind,
        things=things,
        background=_pick(rng, BACKGROUNDS),
        dots=dots,
        camera=camera,
        duration=float(rng.choice((2.0, 2.5, 3.0, 3.5, 4.0))),
        sound=bool(rng.random() < 0.3),
    )


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _looks(rng: np.random.Generator, split: str, actions: list[str]) -> list[tuple[str, str]]:
    """Distinct (shape, colour) pairs such that every acting one belongs to the split."""
    chosen: list[tuple[str, str]] = []
    while len(chosen) < len(actions):
        look = (_pick(rng, SHAPES), _pick(rng, COLOURS))
        action = actions[len(chosen)]
        if look not in chosen and (action == "still" or combination_split(*look, action) == split):
            chosen.append(look)
    return chosen


def _lanes(rng: np.random.Generator, count: int) -> list[float]:
    """Centres of parallel lanes, one a thing, in random order."""
    if count == 1:
        return [float(rng.uniform(0.3, 0.7))]
    lanes = {2: (0.27, 0.73), 3: (0.18, 0.5, 0.82)}[count]
    return [float(v + rng.uniform(-0.04, 0.04)) for v in rng.permutation(lanes)]


def _at(along: float, lane: float, vertical: bool) -> tuple[float, float]:
    return (lane, along) if vertical else (along, lane)


def _run(rng: np.random.Generator, direction: str, fast: bool, lane: float):
    """Start and end of a move along a lane: fast things cross the picture, slow ones a third of it."""
    travel = float(rng.uniform(0.6, 0.7) if fast else rng.uniform(0.28, 0.36))
    low = float(rng.uniform(0.15, 0.85 - travel))
    ends = (low, low + travel) if direction in ("right", "down") else (low + travel, low)
    vertical = direction in ("up", "down")
    return _at(ends[0], lane, vertical), _at(ends[1], lane, vertical)


def _rest(rng: np.random.Generator, lane: float, vertical: bool):
    point = _at(float(rng.uniform(0.2, 0.8)), lane, vertical)
    return point, point


def _size(rng: np.random.Generator) -> str:
    return _pick(rng, SIZES)


def _moves(rng: np.random.Generator, split: str):
    """One or two things move the whole time, or one of two stands still."""
    vertical = bool(rng.random() < 0.5)
    axis = ("up", "down") if vertical else ("left", "right")
    actions = [_pick(rng, axis)]
    if rng.random() < 0.8:
        actions.append(_pick(rng, (*axis, *axis, "still")))
    speeds = rng.permutation([True, False])
    things = []
    for (shape, colour), action, lane, fast in zip(
        _looks(rng, split, actions), actions, _lanes(rng, len(actions)), speeds, strict=False
    ):
        path = _rest(rng, lane, vertical) if action == "still" else _run(rng, action, bool(fast), lane)
        things.append(Thing(shape, colour, _size(rng), action, path, fast=bool(fast) and action != "still"))
    return tuple(things), "still"


def _order(rng: np.random.Generator, split: str):
    """Two things move one after the other."""
    vertical = bool(rng.random() < 0.5)
    axis = ("up", "down") if vertical else ("left", "right")
    actions = [_pick(rng, axis), _pick(rng, axis)]
    things = [
        Thing(shape, colour, _size(rng), action, _run(rng, action, True, lane), start, start + 0.45, True)
        for (shape, colour), action, lane, start in zip(
            _looks(rng, split, actions), actions, _lanes(rng, 2), (0.0, 0.55), strict=True
        )
    ]
    return tuple(things[i] for i in rng.permutation(2)), "still"


def _bounce(rng: np.random.Generator, split: str):
    """One thing runs from wall to wall; another may stand by."""
    vertical = bool(rng.random() < 0.5)
    actions = ["bounce", "still"][: 1 + int(rng.random() < 0.6)]
    turns = int(rng.integers(1, 4))
    things = []
    for (shape, colour), action, lane in zip(
        _looks(rng, split, actions), actions, _lanes(rng, len(actions)), strict=True
    ):
        if action == "bounce":
            ends = (0.14, 0.86) if rng.random() < 0.5 else (0.86, 0.14)
            path = (_at(ends[0], lane, vertical), _at(ends[1], lane, vertical))
            things.append(Thing(shape, colour, _size(rng), action, path, fast=turns > 1, turns=turns))
        else:
            things.append(Thing(shape, colour, _size(rng), action, _rest(rng, lane, vertical)))
    return tuple(things), "still"


def _change(rng: np.random.Generator, split: str):
    """One thing grows, shrinks or takes another colour; another stands still."""
    vertical = bool(rng.random() < 0.5)
    actions = [_pick(rng, ("grow", "shrink", "recolour", "recolour")), "still"][: 1 + int(rng.random() < 0.7)]
    looks = _looks(rng, split, actions)
    things = []
    for (shape, colour), action, lane in zip(looks, actions, _lanes(rng, len(actions)), strict=True):
        free = tuple(c for c in COLOURS if (shape, c) not in looks)
        things.append(
            Thing(
                shape,
                colour,
                {"grow": "small", "shrink": "big"}.get(action) or _size(rng),
                action,
                _rest(rng, lane, vertical),
                start=0.4,
                stop=0.6,
                becomes=_pick(rng, free) if action == "recolour" else "",
            )
        )
    return tuple(things), "still"


def _come_and_go(rng: np.random.Generator, split: str):
    """One to three things appear or vanish one after the other; the others stay."""
    action = _pick(rng, ("appear", "vanish"))
    total = int(rng.integers(2, 4))
    acting = int(rng.integers(1, total + 1))
    actions = [action] * acting + ["still"] * (total - acting)
    times = np.linspace(0.2, 0.8, acting + 2)[1:-1] if acting < 3 else np.array([0.2, 0.5, 0.8])
    vertical = bool(rng.random() < 0.5)
    things = []
    for n, ((shape, colour), act, lane) in enumerate(
        zip(_looks(rng, split, actions), actions, _lanes(rng, total), strict=True)
    ):
        start = float(times[n]) if act != "still" else 0.0
        size = "small" if total == 3 else _size(rng)
        things.append(Thing(shape, colour, size, act, _rest(rng, lane, vertical), start=start, stop=start))
    return tuple(things[i] for i in rng.permutation(total)), "still"


def _push(rng: np.random.Generator, split: str):
    """A thing runs into another, which then moves on in the same direction."""
    direction = _pick(rng, DIRECTIONS)
    vertical = direction in ("up", "down")
    forward = direction in ("right", "down")
    lane = float(rng.uniform(0.3, 0.7))
    marks = (0.12, 0.4, 0.6, 0.88) if forward else (0.88, 0.6, 0.4, 0.12)
    points = [_at(m, lane, vertical) for m in marks]
    (first, second) = _looks(rng, split, [direction, direction])
    return (
        Thing(*first, "small", direction, (points[0], points[1]), 0.0, 0.45, True),
        Thing(*second, "small", direction, (points[2], points[3]), 0.5, 1.0, True, pushed_by=0),
    ), "still"


def _meet(rng: np.random.Generator, split: str):
    """Two things move towards each other and stop side by side."""
    direction = _pick(rng, DIRECTIONS)
    vertical = direction in ("up", "down")
    forward = direction in ("right", "down")
    lane = float(rng.uniform(0.3, 0.7))
    marks = (0.12, 0.4, 0.6, 0.88) if forward else (0.88, 0.6, 0.4, 0.12)
    points = [_at(m, lane, vertical) for m in marks]
    (first, second) = _looks(rng, split, [direction, OPPOSITE[direction]])
    return (
        Thing(*first, "small", direction, (points[0], points[1]), 0.0, 0.8),
        Thing(*second, "small", OPPOSITE[direction], (points[3], points[2]), 0.0, 0.8),
    ), "still"


def _camera(rng: np.random.Generator, split: str):
    """Things stand still while the camera pans or zooms."""
    camera = _pick(rng, (*DIRECTIONS, *ZOOMS))
    count = 1 + int(rng.random() < 0.7)
    actions = [f"camera {camera}"] + ["still"] * (count - 1)
    things = []
    for (shape, colour), lane in zip(_looks(rng, split, actions), _lanes(rng, count), strict=True):
        things.append(Thing(shape, colour, "small", "still", _rest(rng, lane, bool(rng.random() < 0.5))))
    if count == 2:  # two lanes of the same axis never overlap
        vertical = bool(rng.random() < 0.5)
        paths = [_rest(rng, lane, vertical) for lane in _lanes(rng, 2)]
        things = [Thing(t.shape, t.colour, t.size, t.action, p) for t, p in zip(things, paths, strict=True)]
    return tuple(things), camera


_FAMILIES = {
    "moves": (0.30, _moves),
    "order": (0.14, _order),
    "bounce": (0.12, _bounce),
    "change": (0.12, _change),
    "come and go": (0.12, _come_and_go),
    "push": (0.05, _push),
    "meet": (0.03, _meet),
    "camera": (0.12, _camera),
}
