"""Still pictures of the world: what the quickstart's tower learns from.

Every other one is a moment of a training clip's script. The rest are crowds: up to five things that do nothing,
anywhere in the picture, so that a step shows many shapes in many places.
"""

import dataclasses

import numpy as np

from vidlmm.world.motion import RADIUS
from vidlmm.world.script import Script, Thing, write_script
from vidlmm.world.words import CAMERAS, COLOURS, SHAPES, SIZES

_MOST = 5
_TRIES = 60
_MARGIN = 0.08  # things of a crowd keep their centres this far from the picture's edge
_MOVED = 0.3  # share of crowds that a panning or zooming camera shows


def scene(seed: int, number: int) -> tuple[Script, float]:
    """The script and the moment (a share of the clip) that still `number` shows; of training combinations only."""
    script = write_script(seed, "train", number)
    rng = np.random.default_rng([seed, number, 1])
    if number % 2:
        camera = CAMERAS[rng.integers(len(CAMERAS))] if rng.random() < _MOVED else "still"
        script = dataclasses.replace(script, kind="crowd", things=_crowd(rng), camera=camera)
    return script, float(rng.uniform())


def _crowd(rng: np.random.Generator) -> tuple[Thing, ...]:
    """One to five things that do not touch, as far as there is room."""
    wanted, things = int(rng.integers(1, _MOST + 1)), list[Thing]()
    for _ in range(_TRIES):
        if len(things) == wanted:
            break
        x, y = (float(v) for v in rng.uniform(_MARGIN, 1 - _MARGIN, 2))
        shape, colour, size = (str(rng.choice(words)) for words in (SHAPES, COLOURS, SIZES))
        if all(_apart(x, y, RADIUS[size], other) for other in things):
            things.append(Thing(shape, colour, size, "still", ((x, y), (x, y))))
    return tuple(things)


def _apart(x: float, y: float, radius: float, other: Thing) -> bool:
    u, v = other.path[0]
    return (x - u) ** 2 + (y - v) ** 2 >= (radius + RADIUS[other.size]) ** 2
