"""Files that are either the old or the new one, never half of it."""

import os
from pathlib import Path


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file beside `path` and move it there; a kill at any moment leaves the old file or the new one.

    Raises:
        OSError: the folder cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
