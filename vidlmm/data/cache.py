"""Decoded frames kept on disk, so that later epochs do not decode the same clip again.

An entry is the uint8 frames after the fit, as the tower's input needs them, in one .safetensors file. Its
name is a digest of the file's path, modification time and size and of the two specs, so a changed
file or spec is another entry. Not in numpy's format, whose header is a Python expression: entries are read
in threads, and in CPython 3.11 a thread that parses while another does may raise a SystemError.
"""

import hashlib
import json
import logging
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vidlmm.data.errors import DataError
from vidlmm.media.sampling import FrameChoice, Window
from vidlmm.media.video import Clip
from vidlmm.spec import FrameSpec, PixelSpec

_LOG = logging.getLogger(__name__)
_VERSION = 2
_SHARDS = 16


@dataclass(frozen=True)
class FrameCache:
    """A folder of decoded clips of bounded size.

    folder: made if it is not there.
    max_bytes: what all entries together may take. A full cache takes no more entries and throws
        none away: a run visits every clip once an epoch, so replacing old ones would give no hits.

    The entries are spread over 16 sub-folders with an equal share of the bound each, so that a look
    at one of them is enough before a new entry is written.

    Raises:
        DataError: the folder cannot be made, or the bound is not positive.
    """

    folder: str
    max_bytes: int = 2 * 1024**3

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise DataError(f"the frame cache's size must be positive, got {self.max_bytes} bytes")
        try:
            for shard in range(_SHARDS):
                Path(self.folder, f"{shard:x}").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"frame cache {self.folder}: the folder cannot be made: {error.strerror}") from None

    def get(self, path: str, frames: FrameSpec, pixels: PixelSpec, window: Window | None = None) -> Clip | None:
        """The stored clip, or None. An entry that does not read is removed and counts as none."""
        entry = self.entry(path, frames, pixels, window)
        if entry is None or not entry.exists():
            return None
        try:
            with safe_open(entry, framework="np") as stored:
                fields = json.loads(stored.metadata()["choice"])
                several = {name: tuple(fields[name]) for name in ("indices", "times", "told")}
                choice = FrameChoice(duration=fields["duration"], **several)
                return Clip(frames=stored.get_tensor("frames"), choice=choice)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            _LOG.warning("frame cache: %s does not read (%s); it is decoded again", entry, error)
            entry.unlink(missing_ok=True)
            return None

    def put(self, path: str, frames: FrameSpec, pixels: PixelSpec, window: Window | None = None, *, clip: Clip) -> bool:
        """Keep a clip if there is room; says whether it was kept. A full disk is logged, not raised."""
        entry = self.entry(path, frames, pixels, window)
        if entry is None:
            return False
        try:
            used = sum(item.stat().st_size for item in os.scandir(entry.parent))
            if used + clip.frames.nbytes + 4096 > self.max_bytes // _SHARDS:
                return False
            self._write(entry, clip)
        except OSError as error:
            _LOG.warning("frame cache: %s cannot be written: %s", entry, error.strerror)
            return False
        return True

    def entry(self, path: str, frames: FrameSpec, pixels: PixelSpec, window: Window | None = None) -> Path | None:
        """Where a clip, or the part of it in a window of seconds, is kept; None if its file is not there."""
        try:
            stat = os.stat(path)
        except OSError:
            return None
        values = [_VERSION, os.path.abspath(path), stat.st_mtime_ns, stat.st_size, asdict(frames), asdict(pixels)]
        values += [] if window is None else [window]
        name = hashlib.sha256(json.dumps(values).encode()).hexdigest()
        return Path(self.folder, name[0], f"{name[:40]}.safetensors")

    def _write(self, entry: Path, clip: Clip) -> None:
        # Under another name first: a killed run must not leave half an entry behind.
        handle, name = tempfile.mkstemp(dir=entry.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(
                    save({"frames": np.ascontiguousarray(clip.frames)}, {"choice": json.dumps(asdict(clip.choice))})
                )
            os.replace(name, entry)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
