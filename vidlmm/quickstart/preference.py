"""The quickstart's second half: the trained model's own answers, judged by the clips' scripts, into a DPO model.

FOLDER/preference/
  world/          new clips of the training split, which the first half never showed: where it errs as it will err
  answers.jsonl   six answers to each question about them; scored.jsonl; pairs.jsonl; self_play.jsonl
  dpo/ self_play/ runs that began from the quickstart's
  heldout/        what all three say of the held-out clips, and sixteen answers ranked by the implicit reward
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidlmm.checkpoint.files import write_atomic
from vidlmm.checkpoint.run import Run
from vidlmm.configs import load_config
from vidlmm.evals.bootstrap import Interval, gain
from vidlmm.generate import Sampling
from vidlmm.llm import Session
from vidlmm.preference.best import Curve as BestOfN
from vidlmm.preference.judge import judge
from vidlmm.preference.pairs import Paired, pairs
from vidlmm.preference.rank import rank
from vidlmm.preference.rows import read_rows, write_rows
from vidlmm.preference.rules import open_rules
from vidlmm.preference.sample import sample
from vidlmm.quickstart.sources import open_source
from vidlmm.train.loop import train
from vidlmm.world.dataset import captions, make_world
from vidlmm.world.grading import read_scripts
from vidlmm.world.questions import ask
from vidlmm.world.script import Script

# Clips of the second half are those of another seed, so that none of them is one of the first half's.
OTHER_CLIPS = 1000
GREEDY = Sampling(max_new_tokens=64)
DRAWN = Sampling(max_new_tokens=64, temperature=1.0, top_p=0.95)
MODELS = {"sft": "SFT, before", "dpo": "DPO", "self_play": "self-play"}
LEAST_RIGHT = 3.0  # the score from which the paper counts an answer as right
Part = Callable[[str, str], AbstractContextManager[None]]  # what is said of a part, and its name


@dataclass(frozen=True)
class PreferenceSize:
    """How much of everything.

    clips: new ones of the training split. most: questions of a type about each. n: answers to each question.
    steps: of each training; None leaves the config's. heldout: questions of a type about a held-out clip; limit: the
    first so many of them alone. ranked: held-out questions whose answers are ranked, and how many each.
    """

    clips: int = 200
    most: int = 1
    n: int = 6
    steps: int | None = None
    heldout: int = 1
    limit: int | None = None
    ranked: tuple[int, int] = (120, 16)


FULL = PreferenceSize()
SMOKE = PreferenceSize(clips=8, n=4, steps=2, heldout=1, limit=12, ranked=(4, 4))


@dataclass(frozen=True)
class Said:
    """A model's answers to the held-out open questions: their scores, from 1 to 5, in the order of the questions."""

    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.scores) / len(self.scores)

    @property
    def right(self) -> float:
        """Share of answers with a score of at least 3."""
        return sum(score >= LEAST_RIGHT for score in self.scores) / len(self.scores)


@dataclass(frozen=True)
class Preferred:
    """What the second half found.

    said: by the names of MODELS. clips: of each held-out question. above: by how much the mean score of "dpo" and of
    "self_play" lies above that of "sft". runs: folders of the two trained models.
    """

    said: Mapping[str, Said]
    clips: tuple[str, ...]
    above: Mapping[str, Interval]
    paired: Mapping[str, Paired]
    curve: BestOfN
    runs: Mapping[str, Path]

    def line(self) -> str:
        """For the terminal."""
        before, after, more = self.said["sft"], self.said["dpo"], self.above["dpo"]
        return (
            f"Open questions about held-out videos, judged from 1 to 5: {before.mean:.2f} before, {after.mean:.2f} "
            f"after DPO, {more.value:+.2f} (95 % interval {more.low:+.2f} to {more.high:+.2f}); self-play "
            f"{self.said['self_play'].mean:.2f}."
        )


def prefer(folder: Path, run: Path, world: Path, size: PreferenceSize, seed: int, part: Part) -> Preferred:
    """From the finished run of the first half to two preference models and what they say of held-out clips.

    Every part goes on where it was stopped. Nothing is chosen by the held-out clips.

    Args:
        folder: of the quickstart; what is made stands in FOLDER/preference.
        run: the first half's; world: its clips, of which the held-out ones are asked about.
        part: announces a part and counts its seconds.

    Raises:
        What `sample`, `judge`, `pairs`, `train` and `rank` raise.
    """
    own, cache = folder / "preference", folder / "frames"
    with part("sampling answers to questions about new videos, and judging them", "answers"):
        new = own / "world"
        if not (new / "scripts.json").is_file():
            # In this process: JAX has started, and a fork of what has threads may stand still.
            make_world(new, {"train": size.clips}, seed + OTHER_CLIPS, workers=1, most=1)
        write_questions(own / "questions.jsonl", new, "train", seed, size.most)
        answer(run, own / "questions.jsonl", own / "answers.jsonl", new, size.n, replace(DRAWN, seed=seed), cache)
        scored = own / "scored.jsonl"
        # The best answer against the worst: of a clip's questions more give a pair than by the paper's threshold, which
        # drops those whose answers are all good or all bad.
        paired = {
            "dpo": pairs(scored, own / "pairs.jsonl", rule="best-worst", seed=seed),
            "self_play": pairs(scored, own / "self_play.jsonl", rule="self-play", seed=seed),
        }
    runs = {}
    for name, file in (("dpo", "pairs.jsonl"), ("self_play", "self_play.jsonl")):
        with part(f"training on {paired[name].pairs} pairs: {MODELS[name]}", name):
            runs[name] = train(configure(run, own / file, cache, seed, size.steps), own / name, open_source).folder
    heldout = own / "heldout"
    with part("asking all three about held-out videos", "open questions"):
        write_questions(heldout / "questions.jsonl", world, "heldout", seed, size.heldout, size.limit)
        said = {}
        for name, model in {"sft": run, **runs}.items():
            out = heldout / f"{name}.jsonl"
            said[name] = answer(
                model, heldout / "questions.jsonl", out, world, 1, GREEDY, cache, f"{name}_scored.jsonl"
            )
    with part("ranking answers by the implicit reward", "ranking"):
        few, most = size.ranked
        asked = read_rows(heldout / "questions.jsonl")
        write_rows(heldout / "ranked_questions.jsonl", asked[:: max(1, len(asked) // few)][:few])
        drawn = heldout / "drawn.jsonl"
        answer(
            run,
            heldout / "ranked_questions.jsonl",
            drawn,
            world,
            most,
            replace(DRAWN, seed=seed),
            cache,
            "drawn_scored.jsonl",
        )
        found = rank(
            runs["dpo"], run, heldout / "drawn_scored.jsonl", heldout / "ranked.jsonl", length=1024, cache=cache
        )
    clips = tuple(str(row["video"]) for row in read_rows(heldout / "questions.jsonl"))
    above = {name: score_gain(said[name], said["sft"], clips, seed) for name in runs}
    assert found.curve is not None  # the drawn answers have scores
    made = Preferred(said, clips, above, paired, found.curve, runs)
    write_atomic(own / "preference.json", json.dumps(figures(made), indent=2) + "\n")
    return made


def configure(run: Path, file: Path, cache: Path, seed: int, steps: int | None) -> Any:
    """configs/quickstart_dpo.py on a file of pairs."""
    config: Any = load_config("quickstart_dpo", [f"--config.data.path={file}", f"--config.init={run}"])
    config.seed, config.data.cache = seed, str(cache)
    if steps is not None:
        config.stages[0].steps = steps
    return config


def write_questions(path: Path, world: Path, split: str, seed: int, most: int, limit: int | None = None) -> None:
    """The open questions about a split's clips: what their captions of all levels answer, and the others."""
    scripts = [script for script in read_scripts(world / "scripts.json").values() if script.split == split]
    rows = [row for script in scripts for row in _questions(script, world, path.parent, seed, most)]
    write_rows(path, rows[:limit])


def answer(
    run: Path,
    questions: Path,
    out: Path,
    world: Path,
    n: int,
    sampling: Sampling,
    cache: Path,
    scored: str = "scored.jsonl",
) -> Said:
    """A model's answers, and the scores that the clips' scripts give them."""
    sample(run, questions, out, n=n, sampling=sampling, cache=cache)
    graded = out.with_name(scored)
    judge(out, None, Session(open_rules(world / "scripts.json")), graded, concurrency=1)
    return Said(tuple(float(row["score"]) for row in read_rows(graded)))


def score_gain(after: Said, before: Said, clips: Sequence[str], seed: int) -> Interval:
    """By how much the mean score rose: paired, with its 95 % interval over resampled clips."""
    span = 4.0  # from 1 to 5; the bootstrap knows shares from 0 to 1
    later, earlier = ([(score - 1) / span for score in one.scores] for one in (after, before))
    found = gain(later, earlier, clips, seed)
    return Interval(span * found.value, span * found.low, span * found.high)


def figures(made: Preferred) -> dict[str, Any]:
    """What preference.json holds."""
    return {
        "open_questions": len(made.clips),
        "score": {name: said.mean for name, said in made.said.items()},
        "right": {name: said.right for name, said in made.said.items()},
        "above_sft": {name: dataclasses.asdict(interval) for name, interval in made.above.items()},
        "pairs": {name: dataclasses.asdict(paired) for name, paired in made.paired.items()},
        "best_of_n": dataclasses.asdict(made.curve),
        "metrics": {name: str(Run(run).metrics) for name, run in made.runs.items()},
    }


def _questions(script: Script, world: Path, folder: Path, seed: int, most: int) -> list[dict[str, Any]]:
    video = Path(os.path.relpath(world / "clips" / f"{script.id}.mp4", folder)).as_posix()
    asked = [(question.question, question.answer) for question in ask(script, seed, most)]
    return [
        {"id": f"{script.id}/{number}", "video": video, "question": question, "answer": answer}
        for number, (question, answer) in enumerate([*captions(script), *asked])
    ]
