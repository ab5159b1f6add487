"""A mixture file into records: several annotation files, each with a sampling strategy.

The format is LLaVA-NeXT's (`train.py`, LazySupervisedDataset.__init__):

    datasets:
      - json_path: captions.json        # relative paths start beside this file
        sampling_strategy: first:10%    # all | first:N | end:N | random:N; N a count or k%
"""

import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from vidlmm.data.errors import DataError
from vidlmm.data.order import shuffled
from vidlmm.data.records import Record, read_records

_ENTRY_KEYS = ("json_path", "media_root", "sampling_strategy")


def read_data(path: str | Path, media_root: str | Path | None = None, seed: int = 0) -> list[Record]:
    """Records of a mixture (.yaml), or of one or several annotation files (.json, .jsonl, `base{a,b}.json`).

    Args:
        media_root: folder of relative media paths; None is the folder of each annotation file.
        seed: decides what `random:N` takes.

    Raises:
        DataError: a file, key or strategy that is not understood, or no record at all.
    """
    path = Path(path)
    if path.suffix in (".yaml", ".yml"):
        records = read_mixture(path, media_root, seed)
    else:
        records = [record for file in expand_braces(str(path)) for record in read_records(file, media_root)]
    if not records:
        raise DataError(f"{path}: no records; expected at least one")
    return records


def read_mixture(path: str | Path, media_root: str | Path | None = None, seed: int = 0) -> list[Record]:
    """Records of all entries of a mixture file, in the order of the entries.

    An entry may name its own `media_root`, relative to the mixture file; it goes before the argument.

    Raises:
        DataError: as `read_data`.
    """
    path = Path(path)
    records: list[Record] = []
    for number, entry in enumerate(_entries(path)):
        place = f"{path}, dataset {number}"
        root = media_root if entry.get("media_root") is None else path.parent / str(entry["media_root"])
        rows = [
            record
            for file in expand_braces(str(path.parent / str(entry["json_path"])))
            for record in read_records(file, root)
        ]
        strategy = str(entry.get("sampling_strategy", "all"))
        try:
            records += [rows[i] for i in select(len(rows), strategy, seed, number)]
        except DataError as error:
            raise DataError(f"{place}: {error}") from None
    return records


def select(count: int, strategy: str, seed: int = 0, stream: int = 0) -> list[int]:
    """Indices of the rows that a strategy takes of `count` rows, ascending.

    Args:
        strategy: "all", "first:N", "end:N" or "random:N"; N is a count or "k%", which rounds up.
        stream: number of the data set, so that equal files are sampled differently.

    Raises:
        DataError: another strategy, or an amount that is not positive.
    """
    if strategy == "all":
        return list(range(count))
    kind, _, amount = strategy.partition(":")
    if kind not in ("first", "end", "random"):
        raise DataError(f"unknown sampling strategy {strategy!r}; expected all, first:N, end:N or random:N (N or k%)")
    take = min(count, _amount(amount, count, strategy))
    if kind == "first":
        return list(range(take))
    if kind == "end":
        return list(range(count - take, count))
    return sorted(int(i) for i in shuffled(count, seed, stream)[:take])


def expand_braces(path: str) -> list[str]:
    """`base{a,b}.json` as [`basea.json`, `baseb.json`]; a path without braces as it is."""
    match = re.search(r"\{([^{}]*)\}", path)
    if not match:
        return [path]
    head, tail = path[: match.start()], path[match.end() :]
    return [whole for part in match.group(1).split(",") for whole in expand_braces(head + part.strip() + tail)]


def _amount(text: str, count: int, strategy: str) -> int:
    try:
        value = Fraction(Decimal(text.removesuffix("%").strip()))
    except (InvalidOperation, ValueError, OverflowError):
        raise DataError(f"sampling strategy {strategy!r}: {text!r} is neither a count nor a percentage") from None
    if value <= 0 or (not text.endswith("%") and value.denominator != 1):
        raise DataError(f"sampling strategy {strategy!r}: expected a positive count or percentage, got {text!r}")
    return math.ceil(value * count / 100) if text.endswith("%") else int(value)


def _entries(path: Path) -> list[Mapping[str, Any]]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such mixture file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    entries = loaded.get("datasets") if isinstance(loaded, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: expected 'datasets:' with a list of entries, got {type(loaded).__name__}")
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or "json_path" not in entry:
            raise DataError(f"{path}, dataset {number}: expected an entry with 'json_path', got {entry!r:.80}")
        unknown = sorted(set(map(str, entry)) - set(_ENTRY_KEYS))
        if unknown:
            raise DataError(f"{path}, dataset {number}: unknown key(s) {unknown}; known are {list(_ENTRY_KEYS)}")
    return entries
