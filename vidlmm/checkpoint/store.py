"""Checkpoints of a run: a folder a step, written whole or not at all, the last few kept."""

import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from vidlmm.checkpoint.files import write_atomic

META = "meta.json"
ARRAYS = "arrays"


class CheckpointError(RuntimeError):
    """There are checkpoints and none can be read; the message says what is wrong with each."""


@dataclass(frozen=True)
class Restored:
    """A checkpoint as read: step of the whole run, arrays by group, and what the saver wrote beside them."""

    step: int
    arrays: Any
    meta: dict[str, Any]


class Store:
    """The checkpoints below one folder, named by their step.

    A checkpoint is written beside its final name and renamed when it is complete, so a kill leaves none or a whole
    one. Checksums in `meta.json` find what a disk has lost later.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder = folder.absolute()  # orbax refuses relative paths
        self.keep = max(1, keep)

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in ascending order."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())

    def save(self, step: int, arrays: Any, meta: dict[str, Any]) -> None:
        """Write a checkpoint and remove the oldest beyond `keep`.

        Args:
            step: step of the whole run; a checkpoint of that step is left as it is.
            arrays: any pytree of arrays.
            meta: anything JSON can hold: the data position above all.

        Raises:
            OSError: the folder cannot be written.
        """
        final = self.folder / str(step)
        if final.exists():
            return
        beside = self.folder / f".{step}.tmp"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        with _raised_not_logged():
            ocp.save(str(beside / ARRAYS), arrays)
        write_atomic(beside / META, json.dumps({"step": step, "meta": meta, "checksums": checksums(arrays)}))
        os.replace(beside, final)
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.folder / str(old))

    def meta(self, step: int) -> dict[str, Any]:
        """What was saved beside the arrays.

        Raises:
            OSError, ValueError: the file is missing or torn.
        """
        return self._record(step)["meta"]

    def restore(self, abstract: Callable[[dict[str, Any]], Any], warn: Callable[[str], None]) -> Restored | None:
        """The newest checkpoint that can be read; None where there is none at all.

        A torn one is set aside as `<step>.torn`, and `warn` is told.

        Args:
            abstract: from a checkpoint's meta to its pytree of `jax.ShapeDtypeStruct` (with shardings).
            warn: takes one line.

        Raises:
            CheckpointError: none of them can be read.
        """
        faults = []
        self._clean()
        for step in reversed(self.steps()):
            try:
                record = self._record(step)
                arrays = ocp.load(str(self.folder / str(step) / ARRAYS), abstract(record["meta"]))
                _compare(checksums(arrays), record["checksums"])
            except Exception as error:  # whatever a damaged file makes of the reader
                faults.append(f"checkpoint {step}: {_first_line(error)}")
                continue
            for fault in faults:
                warn(f"{fault}; going on from checkpoint {step}")
            for torn in [s for s in self.steps() if s > step]:
                os.replace(self.folder / str(torn), self._torn_name(torn))
            return Restored(step, arrays, record["meta"])
        if faults:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be read ({'; '.join(faults)}); "
                "remove the folder to start anew, or use another --workdir"
            )
        return None

    def _record(self, step: int) -> dict[str, Any]:
        return json.loads((self.folder / str(step) / META).read_text())

    def _torn_name(self, step: int) -> Path:
        path = self.folder / f"{step}.torn"
        shutil.rmtree(path, ignore_errors=True)
        return path

    def _clean(self) -> None:
        """Remove what a killed save left."""
        if self.folder.is_dir():
            for path in self.folder.glob(".*.tmp"):
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _raised_not_logged() -> Iterator[None]:
    """Keeps orbax's threads from logging the traceback of an error that is raised as well."""
    logger = logging.getLogger("absl")

    def plain(record: logging.LogRecord) -> bool:
        return not record.exc_info

    logger.addFilter(plain)
    try:
        yield
    finally:
        logger.removeFilter(plain)


def checksums(arrays: Any) -> dict[str, int]:
    """CRC-32 of every array that this process holds whole, by its place in the tree."""
    sums = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(arrays)[0]:
        if getattr(leaf, "is_fully_addressable", True):
            sums[jax.tree_util.keystr(path)] = zlib.crc32(np.asarray(leaf).tobytes())
    return sums


def _compare(found: dict[str, int], stored: dict[str, int]) -> None:
    for name, value in found.items():
        if stored.get(name, value) != value:
            raise ValueError(f"checksum of {name} differs from what was saved")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
