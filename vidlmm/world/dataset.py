"""A folder of generated clips with annotations in the released LLaVA-Video-178K format.

folder/
  clips/train-0-00000.mp4 …
  train_cap.json  train_oe.json  train_mc.json     one file a kind of question, as released
  train_all.json                                   every question of a clip in one row
  validation_mc.json  heldout_mc.json  heldout_oe.json
  scripts.json                                     what each clip was made from
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from vidlmm.world.captions import level_1, level_2, level_3, still_caption, stretches
from vidlmm.world.encode import write_clip
from vidlmm.world.questions import LETTERS, Question, ask
from vidlmm.world.script import Script, write_script

# The two ways in which LLaVA-Video-178K asks for an option, and one more: naming a letter is a skill of its
# own, which a decoder of a million parameters learns long after it knows the answers.
LETTER_ONLY = "Please respond with only the letter of the correct answer."
FULL_OPTION = "Please provide your answer by stating the letter followed by the full option."
OPTION_TEXT = "Please respond with only the text of the correct option."
DESCRIBE = "Describe the video."
FIRST_PICTURE = "Describe the first picture."
LAST_PICTURE = "Describe the last picture."

Turn = tuple[str, str]


def multiple_choice(question: Question, tail: str = OPTION_TEXT) -> Turn:
    """A question with its lettered options, and its answer in the form that `tail` asks for."""
    options = "\n".join(f"{letter}. {text}." for letter, text in zip(LETTERS, question.options, strict=False))
    forms = {LETTER_ONLY: f"{question.letter}.", FULL_OPTION: f"{question.letter}. {question.answer}."}
    answer = forms.get(tail, question.answer)
    return f"{question.question}\n{options}\n{tail}", answer


def open_ended(question: Question) -> Turn:
    return question.question, question.answer


def captions(script: Script) -> list[Turn]:
    """The caption levels as questions: the whole clip, its first and last picture, its stretches."""
    turns = [
        (DESCRIBE, level_3(script)),
        (FIRST_PICTURE, still_caption(script, 0.0)),
        (LAST_PICTURE, still_caption(script, 1.0)),
    ]
    count = stretches(script)
    for number in range(count):
        turns.append((f"What happens in part {number + 1} of {count}?", level_1(script, number)))
    turns.append(("What has happened so far?", level_2(script, count)))
    return turns


def row(script: Script, kind: str, turns: Sequence[Turn], questions: Sequence[Question] = ()) -> dict[str, Any]:
    """A row of the released form; `questions` says of each turn what an evaluation must know."""
    said: list[dict[str, str]] = []
    for number, (question, answer) in enumerate(turns):
        said.append({"from": "human", "value": ("<image>\n" if number == 0 else "") + question})
        said.append({"from": "gpt", "value": answer})
    made: dict[str, Any] = {
        "id": f"{script.id}-{kind}",
        "conversations": said,
        "data_source": f"world_{kind}",
        "video": f"clips/{script.id}.mp4",
    }
    if questions:
        made["questions"] = [
            {"type": q.type, "motion": q.motion, "options": list(q.options), "answer": q.answer} for q in questions
        ]
    return made


# Shares of open questions, and of multiple choice by letter, by letter and option, by the option's text.
FORMS = (0.65, 0.0, 0.0, 0.35)
_TAILS = (LETTER_ONLY, FULL_OPTION, OPTION_TEXT)


def all_turns(script: Script, seed: int, most: int, forms: Sequence[float] = FORMS) -> list[Turn]:
    """Captions and questions of a clip, each question once and in one form, in an order drawn by the seed."""
    rng = np.random.default_rng([seed, 1, *script.id.encode()])
    turns = captions(script)[:3]
    asked = ask(script, seed, most)
    for number in rng.permutation(len(asked)):
        form = int(rng.choice(4, p=tuple(forms)))
        turns.append(multiple_choice(asked[number], _TAILS[form - 1]) if form else open_ended(asked[number]))
    return turns


def make_world(
    folder: Path,
    counts: Mapping[str, int],
    seed: int,
    *,
    workers: int = 1,
    most: int = 3,
    on_clip: Callable[[int, int], None] | None = None,
) -> None:
    """Writes `counts[split]` clips of each split and all annotation files into `folder`.

    Clips that are there already are kept, so a call that was cut short goes on. `most`: questions of a
    type a clip. `on_clip(done, total)` is called as clips appear.

    Raises:
        OSError: the folder cannot be written.
    """
    scripts = [write_script(seed, split, number) for split, count in counts.items() for number in range(count)]
    clips = folder / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    missing = [s for s in scripts if not (clips / f"{s.id}.mp4").exists()]
    for done, _ in enumerate(_write_all(missing, clips, workers), start=len(scripts) - len(missing) + 1):
        if on_clip is not None:
            on_clip(done, len(scripts))
    for split in counts:
        _annotate(folder, split, [s for s in scripts if s.split == split], seed, most)
    _write_json(folder / "scripts.json", [dataclasses.asdict(s) for s in scripts])


def _write_all(scripts: Sequence[Script], clips: Path, workers: int) -> Iterator[None]:
    if workers <= 1:
        yield from (write_clip(s, clips / f"{s.id}.mp4") for s in scripts)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(write_clip, scripts, [clips / f"{s.id}.mp4" for s in scripts], chunksize=8)


def _annotate(folder: Path, split: str, scripts: Sequence[Script], seed: int, most: int) -> None:
    asked = {s.id: ask(s, seed, most) for s in scripts}
    files = {
        "cap": [row(s, "cap", captions(s)) for s in scripts],
        "oe": [row(s, "oe", [open_ended(q) for q in asked[s.id]], asked[s.id]) for s in scripts],
        "mc": [row(s, "mc", [multiple_choice(q) for q in asked[s.id]], asked[s.id]) for s in scripts],
        "all": [row(s, "all", all_turns(s, seed, most)) for s in scripts],
    }
    for kind, rows in files.items():
        _write_json(folder / f"{split}_{kind}.json", rows)


def _write_json(path: Path, value: Any) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1))
    os.replace(part, path)
