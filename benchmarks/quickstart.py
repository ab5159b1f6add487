"""The quickstart over several seeds: accuracy on held-out videos, time, memory, waiting for data.

    python benchmarks/quickstart.py --seeds 0 1 2 --out runs/benchmark [--preference]

Each seed makes its own videos and its own model. Answers are held to the options; "left free" is the accuracy of
answers that the model writes as it likes, unparsed ones counted as wrong. With --preference every seed goes on to the
second half, and a second table says what it gained on open questions about held-out videos: mean scores from 1 to 5 by
the videos' scripts, and the paired gain with its 95 % interval over resampled videos, of each seed and of all together.
The tables go into docs/benchmarks.md.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidlmm.preference.rows import read_rows
from vidlmm.quickstart.preference import Said, score_gain

RESULTS = Path(__file__).parent / "results" / "quickstart.json"
# Figures of a run, and how they are printed.
FIGURES = {
    "accuracy": "{:.3f}",
    "blind": "{:.3f}",
    "majority": "{:.3f}",
    "motion accuracy": "{:.3f}",
    "motion blind": "{:.3f}",
    "left free": "{:.3f}",
    "minutes": "{:.1f}",
    "memory GB": "{:.1f}",
    "data wait": "{:.3f}",
}
# Parts of a run's time that belong to the second half.
_SECOND = ("answers", "dpo", "self_play", "open questions", "ranking")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, then print the table and write RESULTS."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--preference", action="store_true", help="go on to preference optimisation")
    args = parser.parse_args(arguments)
    folders = {seed: args.out / f"seed{seed}" for seed in args.seeds}
    for seed, folder in folders.items():
        command = [sys.executable, "-m", "vidlmm", "quickstart", "--workdir", str(folder), "--seed", str(seed)]
        subprocess.run([*command, "--preference" if args.preference else "--no-preference"], check=True)
    runs = {seed: figures(folder) for seed, folder in folders.items()}
    found: dict[str, Any] = {"runs": runs, "mean": mean(list(runs.values()))}
    print(table(runs))
    if args.preference:
        found["preference"] = {str(seed): preference(folder) for seed, folder in folders.items()}
        found["preference"]["all"] = together(folders)
        print("\n" + preference_table(found["preference"]))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def figures(folder: Path) -> dict[str, float]:
    """The figures of one finished quickstart."""
    report = json.loads((folder / "report" / "report.json").read_text())
    rows = {row["group"]: row for row in report["scores"] if row["kind"] == "multiple_choice"}
    overall, motion = rows["overall"], rows["motion"]
    free = json.loads((folder / "evals" / "heldout_mc_free" / "scores.json").read_text())["scores"]
    cost = json.loads((folder / "cost.json").read_text())
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "accuracy": overall["accuracy"],
        "blind": overall["blind"],
        "majority": overall["majority"],
        "motion accuracy": motion["accuracy"],
        "motion blind": motion["blind"],
        "left free": next(row["accuracy"] for row in free if row["group"] == "overall"),
        "minutes": sum(took for part, took in cost["seconds"].items() if part not in _SECOND) / 60,
        "memory GB": cost["memory_gb"],
        "data wait": statistics.mean(row["data_wait"] for row in metrics if "data_wait" in row),
    }


def said(folder: Path, model: str) -> tuple[Said, list[str]]:
    """The scores of a model's answers about the held-out videos, and the video of each."""
    heldout = folder / "preference" / "heldout"
    rows = read_rows(heldout / f"{model}_scored.jsonl")
    clips = [str(row["video"]) for row in read_rows(heldout / "questions.jsonl")]
    return Said(tuple(float(row["score"]) for row in rows)), clips


def preference(folder: Path) -> dict[str, float]:
    """What the second half of one quickstart gained."""
    (before, clips), (after, _), (self_play, _) = (said(folder, model) for model in ("sft", "dpo", "self_play"))
    found = score_gain(after, before, clips, 0)
    made = json.loads((folder / "preference" / "preference.json").read_text())
    cost = json.loads((folder / "cost.json").read_text())["seconds"]
    return {
        "pairs": made["pairs"]["dpo"]["pairs"],
        "questions": len(clips),
        "SFT": before.mean,
        "DPO": after.mean,
        "gain": found.value,
        "low": found.low,
        "high": found.high,
        "self-play": self_play.mean,
        "minutes": sum(cost[part] for part in _SECOND) / 60,
    }


def together(folders: dict[int, Path]) -> dict[str, float]:
    """The gain over all seeds: their questions in one list, each seed's videos being others."""
    scores: dict[str, list[float]] = {"sft": [], "dpo": [], "self_play": []}
    clips: list[str] = []
    for seed, folder in folders.items():
        for model, kept in scores.items():
            found, own = said(folder, model)
            kept += found.scores
        clips += [f"{seed}/{clip}" for clip in own]
    before, after, self_play = (Said(tuple(kept)) for kept in scores.values())
    found = score_gain(after, before, clips, 0)
    numbers = {"SFT": before.mean, "DPO": after.mean, "gain": found.value, "low": found.low, "high": found.high}
    return {"questions": len(clips), **numbers, "self-play": self_play.mean}


def preference_table(rows: dict[str, dict[str, float]]) -> str:
    """The second half's figures as a markdown table."""
    lines = [
        "| seed | pairs | questions | SFT | DPO | gain | 95 % interval | self-play | minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for seed, row in rows.items():
        cells = [seed, row.get("pairs", ""), row["questions"], f"{row['SFT']:.3f}", f"{row['DPO']:.3f}"]
        cells += [f"{row['gain']:+.3f}", f"{row['low']:+.3f} to {row['high']:+.3f}", f"{row['self-play']:.3f}"]
        cells.append(f"{row['minutes']:.1f}" if "minutes" in row else "")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def mean(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.mean(run[name] for run in runs) for name in FIGURES}


def table(runs: dict[int, dict[str, Any]]) -> str:
    """The runs and their mean as a markdown table."""
    lines = ["| seed | " + " | ".join(FIGURES) + " |", "|---" * (len(FIGURES) + 1) + "|"]
    for name, run in [*((str(seed), run) for seed, run in runs.items()), ("mean", mean(list(runs.values())))]:
        lines.append(f"| {name} | " + " | ".join(FIGURES[key].format(run[key]) for key in FIGURES) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
