"""The main job from nothing to a report: world, training, evaluation, preferences where asked for, page. Every part
goes on where it stopped."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vidlmm.checkpoint.files import write_atomic
from vidlmm.configs import load_config
from vidlmm.evals.questions import read_questions
from vidlmm.evals.run import evaluate
from vidlmm.evals.score import Scores
from vidlmm.evals.table import format_table
from vidlmm.quickstart import preference as second
from vidlmm.quickstart.page import write_page
from vidlmm.quickstart.preference import PreferenceSize, prefer
from vidlmm.quickstart.preference_page import preference_section
from vidlmm.quickstart.sources import open_source
from vidlmm.train.errors import disk_errors
from vidlmm.train.ledger import LEDGER, Ledger
from vidlmm.train.loop import train
from vidlmm.world.dataset import make_world

REPORT = "report"


@dataclass(frozen=True)
class Size:
    """How much of everything. counts: clips by split. most: questions of a type a clip. steps: of each stage;
    None leaves the config's. limit: held-out questions that are asked; None asks all. preference: the second half's."""

    counts: Mapping[str, int]
    most: int = 3
    steps: tuple[int, ...] | None = None
    limit: int | None = None
    preference: PreferenceSize = second.FULL


FULL = Size({"train": 720, "heldout": 72})
# Every part of the way in a minute or two; nothing is learned in it.
SMOKE = Size({"train": 16, "heldout": 4}, most=1, steps=(2, 3), limit=12, preference=second.SMOKE)


def quickstart(
    workdir: str | Path,
    *,
    smoke: bool = False,
    preference: bool = True,
    seed: int = 0,
    overrides: tuple[str, ...] = (),
) -> Path:
    """Make a world of clips, train on it in two stages, evaluate on held-out clips, write a report.

    The same call again goes on where it was stopped, and only says so where everything is done.

    Args:
        workdir: the RUN folder; world and report lie in it.
        smoke: the shortest form of everything.
        preference: go on after training: sample answers, judge them, pair them, optimise, compare.
        seed: videos, order and sampling follow from it.
        overrides: "--config.a.b=c" settings on configs/quickstart.py.

    Returns:
        The report's page.

    Raises:
        RunError: the folder cannot be written. What `train` and `evaluate` raise.
    """
    folder, size, parts = Path(workdir), SMOKE if smoke else FULL, 5 if preference else 4
    with disk_errors(folder):
        config = configure(folder, size, seed, overrides)
        cost = Cost(folder / "cost.json")
        world = folder / "world"
        with cost.part(f"1/{parts}", "making the videos", "videos"):
            _world(world, size, seed)
        with cost.part(f"2/{parts}", "training in two stages", "training"):
            run = train(config, folder, open_source)
        with cost.part(f"3/{parts}", "asking about held-out videos, with and without their frames", "evaluation"):
            scores = _evaluate(run.folder, world, size, seed, hold=True)
            free = _evaluate(run.folder, world, size, seed, hold=False)
        print(format_table(scores))
        unheld = free.find("overall")
        print(f"Held to the options. Left free: {unheld.accuracy:.1%} right, {unheld.unparsed:.1%} name no option.")
        sections = ()
        if preference:
            preferred = prefer(
                folder, run.folder, world, size.preference, seed, lambda says, name: cost.part("4/5", says, name)
            )
            print(preferred.line())
            sections = (preference_section(preferred),)
        with cost.part(f"{parts}/{parts}", "writing the report", "report"):
            page = write_page(
                folder / REPORT,
                run.folder,
                scores,
                free,
                sections,
                seed=seed,
                commands=next_commands(folder, world, seed, preference),
                seconds=cost.seconds,
                memory_gb=cost.memory_gb,
            )
        print(f"\nDone in {sum(cost.seconds.values()) / 60:.1f} minutes. The report: {page}\n\nTry next:\n")
        for about, command in next_commands(folder, world, seed, preference):
            print(f"  # {about}\n  {command}\n")
        return page


def configure(folder: Path, size: Size, seed: int, overrides: tuple[str, ...] = ()) -> Any:
    """configs/quickstart.py on the world that stands (or will stand) in `folder`."""
    config: Any = load_config("quickstart", overrides)
    config.seed = seed
    config.data.cache = str(folder / "frames")
    for number, stage in enumerate(config.stages):
        stage.source.path = str(folder / "world" / ("train_cap.json" if stage.name == "align" else "train_all.json"))
        if size.steps is not None:
            stage.steps = size.steps[number]
    return config


def next_commands(folder: Path, world: Path, seed: int, preferred: bool) -> tuple[tuple[str, str], ...]:
    """What to do next, and the command for it."""
    clip = next(iter(sorted((world / "clips").glob("heldout-*.mp4"))))
    further = f"vidlmm quickstart --workdir {folder}" + (f" --seed {seed}" if seed else "")
    return (
        ("Ask about a video, one of these or your own", f'vidlmm chat {folder} --video {clip} "Describe the video."'),
        ("Ask the model after preference optimisation", f"vidlmm chat {folder}/preference/dpo --video {clip}")
        if preferred
        else ("Go on with preference optimisation: sample, judge, pair, optimise, compare", further),
        ("Have a conversation about it", f"vidlmm chat {folder} --video {clip}"),
        ("See a training sample, trained tokens coloured", f"vidlmm data show {folder} --data {world}/train_mc.json"),
        ("Evaluate on open questions instead", f"vidlmm eval {folder} --data {world}/heldout_oe.json"),
        ("Do it all again with other videos", f"vidlmm quickstart --workdir {folder}-1 --seed 1"),
    )


def peak_memory_gb() -> float:
    """The most memory this process has held, in GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)


class Cost:
    """Seconds that each part took and the most memory held, over all calls; kept in a file so that a stopped run
    counts whole."""

    def __init__(self, path: Path):
        self._path = path
        kept = json.loads(path.read_text()) if path.is_file() else {"seconds": {}, "memory_gb": 0.0}
        self.seconds: dict[str, float] = kept["seconds"]
        self._before: float = kept["memory_gb"]

    @property
    def memory_gb(self) -> float:
        """The most memory of this call and those before."""
        return max(self._before, peak_memory_gb())

    @contextmanager
    def part(self, number: str, says: str, name: str) -> Iterator[None]:
        """Announce a part, and add what it takes to its seconds."""
        print(f"[{number}] {says}", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 1)
            if self._path.parent.is_dir():
                kept = {"seconds": self.seconds, "memory_gb": round(self.memory_gb, 3)}
                write_atomic(self._path, json.dumps(kept) + "\n")


def _world(world: Path, size: Size, seed: int) -> None:
    made = world / "scripts.json"
    if made.is_file():
        return
    total = sum(size.counts.values())
    with tqdm(total=total, unit="video", disable=None) as bar:
        make_world(world, size.counts, seed, workers=min(2, os.cpu_count() or 1), most=size.most, on_clip=_counter(bar))


def _evaluate(run: Path, world: Path, size: Size, seed: int, *, hold: bool) -> Scores:
    """On the held-out questions; answers held to the options, or written freely."""
    out = run / "evals" / ("heldout_mc" if hold else "heldout_mc_free")
    data = world / "heldout_mc.json"
    asked = len(read_questions(data))
    says = "held to the options" if hold else "left free"
    bar = tqdm(total=min(asked, size.limit or asked), desc=says, unit="question", disable=None)
    with bar, Ledger(run / LEDGER, "eval"):
        return evaluate(
            run,
            data,
            training=world / "train_mc.json",
            out=out,
            limit=size.limit,
            hold=hold,
            seed=seed,
            progress=_counter(bar),
        )


def _counter(bar: Any) -> Callable[[int, int], None]:
    def count(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return count
