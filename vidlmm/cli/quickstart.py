"""`vidlmm quickstart`: the main job on generated videos."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workdir", type=Path, help="where the run is kept (default: runs/quickstart)")
    parser.add_argument("--smoke", action="store_true", help="the shortest form: a few videos, a few steps")
    parser.add_argument(
        "--preference",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on after training: sample answers, judge, pair, optimise, compare (default: yes)",
    )
    parser.add_argument("--seed", type=int, default=0, help="videos, order and sampling follow from it (default: 0)")


def run(args: argparse.Namespace) -> int:
    from vidlmm.quickstart.run import quickstart

    workdir = args.workdir or Path("runs", "quickstart-smoke" if args.smoke else "quickstart")
    quickstart(workdir, smoke=args.smoke, preference=args.preference, seed=args.seed, overrides=tuple(args.overrides))
    return 0
