"""`vidlmm data`: look at data before a model does."""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    check = actions.add_parser("check", help="open every media file; a line for each bad one, exit code 1 if any")
    check.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files, or folders to walk through")
    check.add_argument("--workers", type=int, default=2, help="files that are open at the same time (default: 2)")
    check.add_argument("--report", type=Path, metavar="FILE", help="write all results as JSON")

    show = actions.add_parser("show", help="print a sample as the model reads it, trained tokens coloured")
    show.add_argument("run", metavar="RUN", help="folder of a trained model; its spec and tokenizer are used")
    show.add_argument("--data", required=True, type=Path, metavar="FILE", help="records: JSON or JSONL")
    show.add_argument("--media-root", type=Path, help="folder of the media (default: that of the records)")
    show.add_argument("--index", type=int, default=0, help="which record, counted from 0 (default: 0)")
    show.add_argument("--no-colour", action="store_true", help="mark trained tokens without colour")


def run(args: argparse.Namespace) -> int:
    return _check(args) if args.action == "check" else _show(args)


def _check(args: argparse.Namespace) -> int:
    from vidlmm.media.check import CheckResult, check_paths, write_report

    def tell(result: CheckResult) -> None:
        if not result.ok:
            print(result, flush=True)

    results = check_paths(args.paths, args.workers, progress=tell)
    if args.report:
        write_report(results, args.report)
    if not results:
        raise ValueError(f"no media file among {', '.join(map(str, args.paths))}")
    bad = sum(not result.ok for result in results)
    print(f"{len(results)} files, {bad} bad")
    return 1 if bad else 0


def _show(args: argparse.Namespace) -> int:
    from vidlmm.data.records import read_records
    from vidlmm.data.show import show_record
    from vidlmm.spec import from_json
    from vidlmm.text import load_tokenizer

    folder = Path(args.run)
    spec = from_json((folder / "spec.json").read_text())
    records = read_records(args.data, args.media_root or args.data.parent)
    if not 0 <= args.index < len(records):
        raise ValueError(f"--index {args.index}: {args.data} holds {len(records)} records, counted from 0")
    colour = sys.stdout.isatty() and not args.no_colour
    print(show_record(records[args.index], spec, load_tokenizer(folder), colour=colour))
    return 0
