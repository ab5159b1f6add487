"""The sound of a script: a tone for every event, at the moment it happens."""

import numpy as np
from jaxtyping import Float32

from vidlmm.world.script import Script, Thing

RATE = 16_000  # Hz
_TONE = 0.15  # seconds
_PITCH = {"bounce": 220.0, "recolour": 660.0, "appear": 880.0, "vanish": 330.0, "grow": 550.0, "shrink": 275.0}
_MEET = 440.0


def events(script: Script) -> list[tuple[float, float]]:
    """(seconds, pitch in Hz) of everything that makes a sound, in order of time."""
    found: list[tuple[float, float]] = []
    for thing in script.things:
        found += [(share * script.duration, pitch) for share, pitch in _of(thing)]
    if script.kind in ("push", "meet"):
        found.append((0.45 * script.duration, _MEET))
    return sorted(found)


def _of(thing: Thing) -> list[tuple[float, float]]:
    if thing.action == "bounce":
        return [((n + 1) / (thing.turns + 1), _PITCH["bounce"]) for n in range(thing.turns)]
    if thing.action in _PITCH:
        return [((thing.start + thing.stop) / 2, _PITCH[thing.action])]
    return []


def waveform(script: Script) -> Float32[np.ndarray, " n"]:
    """Mono sound of the whole clip at RATE, in [-1, 1]: silence with a decaying tone at every event."""
    sound = np.zeros(round(script.duration * RATE), np.float32)
    time = np.arange(round(_TONE * RATE)) / RATE
    for second, pitch in events(script):
        tone = (0.4 * np.sin(2 * np.pi * pitch * time) * np.exp(-time / 0.05)).astype(np.float32)
        begin = min(round(second * RATE), len(sound))
        part = tone[: len(sound) - begin]
        sound[begin : begin + len(part)] += part
    return np.clip(sound, -1.0, 1.0)
