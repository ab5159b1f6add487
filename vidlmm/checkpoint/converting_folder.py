"""A folder that appears whole or not at all, where there is none yet and enough room."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vidlmm.checkpoint.converting_pairs import ConvertError


def check_target(target: Path, nbytes: int) -> None:
    """Refuse a folder before anything is written to it.

    Raises:
        ConvertError: something is there, or the disk has too little room.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConvertError(f"{target} is there and not empty; give a folder that is not there yet")
    parent = next(path for path in (target.absolute(), *target.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(parent).free
    if nbytes > free:
        raise ConvertError(
            f"{target} takes {nbytes / 2**30:.2f} GiB and its disk has {free / 2**30:.2f} GiB free; free some or give "
            "a folder on another disk"
        )


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder beside the target that takes its place at the end, and is gone where there is none."""
    beside = target.absolute().with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        os.replace(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
