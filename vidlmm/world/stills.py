"""Captioned still pictures of the world: what the quickstart's tower learns from.

Contrastive learning takes the cheapest difference between the captions of a batch. So stills come in
groups of GROUP that differ in one attribute of one thing each: colour, shape, size and place all count.
Most groups show one thing alone, which is where the tower learns what a thing is.
"""

import dataclasses

import numpy as np
from jaxtyping import UInt8

from vidlmm.world.captions import still_caption
from vidlmm.world.render import draw_frame
from vidlmm.world.script import Script, Thing, write_script
from vidlmm.world.words import COLOURS, SHAPES

GROUP = 8
_ALONE = 0.6


def still(seed: int, number: int, side: int = 128) -> tuple[UInt8[np.ndarray, "S S 3"], str]:
    """Picture `number` and its caption; numbers of one group of GROUP are variants of one scene."""
    script, t = scene(seed, number)
    return draw_frame(script, t, side), still_caption(script, t)


def scene(seed: int, number: int) -> tuple[Script, float]:
    """The script and the moment that picture `number` shows; of training combinations only."""
    group, variant = divmod(number, GROUP)
    script = write_script(seed, "train", group)
    rng = np.random.default_rng([seed, group, variant, 1])
    of_group = np.random.default_rng([seed, group, 2])
    t = float(of_group.uniform())
    if of_group.random() < _ALONE:
        script = dataclasses.replace(script, things=script.things[:1])
    if variant:
        which = int(rng.integers(len(script.things)))
        things = list(script.things)
        things[which] = _vary(things[which], [o.name for o in things], rng)
        script = dataclasses.replace(script, things=tuple(things))
    return script, t


def _vary(thing: Thing, names: list[str], rng: np.random.Generator) -> Thing:
    """The same thing with another shape, colour, size or place."""
    what = rng.choice(("shape", "shape", "colour", "size", "place"))
    if what == "size":
        return dataclasses.replace(thing, size="big" if thing.size == "small" else "small")
    if what == "place":
        dx, dy = rng.uniform(-0.35, 0.35, 2)
        path = tuple((float(np.clip(x + dx, 0.1, 0.9)), float(np.clip(y + dy, 0.1, 0.9))) for x, y in thing.path)
        return dataclasses.replace(thing, path=(path[0], path[1]))
    options = SHAPES if what == "shape" else COLOURS
    while True:
        changed = dataclasses.replace(thing, **{str(what): options[int(rng.integers(len(options)))]})
        if changed.name not in names:
            return changed
