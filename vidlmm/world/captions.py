"""What a script says in sentences: captions at three levels, as LLaVA-Video's annotators wrote them.

Level 1 tells one short stretch, level 2 the story so far, level 3 the whole clip (paper section 3.2,
with seconds where the paper has tens of seconds, since the clips are that short).
"""

from vidlmm.world.motion import shown_at, thing_at
from vidlmm.world.script import Script, Thing
from vidlmm.world.words import NUMBERS, place

_STRETCH = 1.0  # seconds of a level-1 caption


def doing(thing: Thing) -> str:
    """What a thing does, as a verb phrase in the third person."""
    if thing.action in ("left", "right"):
        return f"moves to the {thing.action}"
    if thing.action in ("up", "down"):
        return f"moves {thing.action}"
    if thing.action == "bounce":
        return f"bounces off a wall {times(thing.turns)}"
    if thing.action == "recolour":
        return f"turns {thing.becomes}"
    return {
        "grow": "grows",
        "shrink": "shrinks",
        "appear": "appears",
        "vanish": "vanishes",
        "still": "stands still",
    }[thing.action]


def times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{NUMBERS[count]} times")


def speed(thing: Thing) -> str:
    """' fast' or ' slowly' for things that move across the picture, '' for others."""
    if thing.action not in ("left", "right", "up", "down"):
        return ""
    return " fast" if thing.fast else " slowly"


def camera_phrase(camera: str) -> str:
    if camera in ("zoom in", "zoom out"):
        return f"zooms {camera.split()[1]}"
    if camera in ("left", "right"):
        return f"moves to the {camera}"
    return f"moves {camera}" if camera in ("up", "down") else "stays still"


def still_caption(script: Script, t: float) -> str:
    """One picture in words: every thing with its size, colour, shape and place."""
    parts = [f"a {s.size} {s.colour} {s.shape} {place(s.x, s.y)}" for s in shown_at(script, t) if _inside(s.x, s.y)]
    parts = parts or ["nothing"]
    return f"{_list(parts)} on a {script.background} background."


def level_1(script: Script, number: int) -> str:
    """The caption of stretch `number` (from 0) of the clip."""
    begin, end = number * _STRETCH / script.duration, min(1.0, (number + 1) * _STRETCH / script.duration)
    sentences = []
    for thing in script.things:
        before, after = thing_at(thing, begin), thing_at(thing, end)
        if before is None and after is None:
            continue
        if before is not None and after is not None and before == after:
            sentences.append(f"the {after.colour} {after.shape} stands {place(after.x, after.y)}")
        elif before is None:
            sentences.append(f"the {thing.name} appears")
        elif after is None:
            sentences.append(f"the {thing.name} vanishes")
        elif thing.action == "bounce":
            sentences.append(f"the {thing.name} runs to {place(after.x, after.y).split(' ', 1)[1]}")
        else:
            sentences.append(f"the {thing.name} {doing(thing)}")
    if script.camera != "still":
        sentences.append(f"the camera {camera_phrase(script.camera)}")
    return _capital(_list(sentences or ["nothing is to be seen"])) + "."


def stretches(script: Script) -> int:
    """Level-1 captions of the clip; a last stretch under half a second joins the one before."""
    return max(1, round(script.duration / _STRETCH))


def level_2(script: Script, upto: int) -> str:
    """The story after `upto` stretches."""
    now = min(1.0, upto * _STRETCH / script.duration)
    begun = [t for t in script.things if t.action != "still" and t.start < now]
    begun.sort(key=lambda thing: thing.start)
    story = [f"the {t.name} {doing(t)}" for t in begun]
    if script.camera != "still":
        story.append(f"the camera {camera_phrase(script.camera)}")
    return "So far " + (_list(story) if story else "nothing moves") + "."


def level_3(script: Script) -> str:
    """The whole clip: scene, every thing, what each does in order, the camera."""
    parts = []
    for thing in sorted(script.things, key=lambda each: each.start):
        what = f"a {thing.size} {thing.name} {doing(thing)}{speed(thing)}"
        if thing.action == "still" and script.camera == "still":
            what += f" {place(*thing.path[0])}"
        parts.append(what)
    joined = ", then ".join(parts) if script.kind in ("order", "push") else _list(parts)
    return f"On a {script.background} background {joined}. The camera {camera_phrase(script.camera)}."


def _inside(x: float, y: float) -> bool:
    return 0.0 <= x <= 1.0 and 0.0 <= y <= 1.0


def _list(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
