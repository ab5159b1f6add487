"""What ends a run early: one clear line each, with the exit code that belongs to it."""

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PLAIN = {
    errno.ENOSPC: "no space is left on the disk; free some or use another --workdir, then run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some or use another --workdir, then run the same command again",
    errno.EROFS: "the file system is read-only; use a --workdir that can be written",
    errno.EACCES: "permission is denied; use a --workdir that can be written",
    errno.EPERM: "permission is denied; use a --workdir that can be written",
    errno.ENOTDIR: "a part of the path is a file, not a folder; use another --workdir",
    errno.EEXIST: "a file is in the way of the folder; use another --workdir",
}
_SURELY_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class RunError(Exception):
    """A run that cannot begin or go on. `exit_code` is what the command leaves with."""

    exit_code: int = 1


class RunInterrupted(RunError):
    """Ctrl-C or SIGTERM: the state is saved, the same command goes on. Exit code 128 + signal number."""

    def __init__(self, signum: int, message: str):
        super().__init__(message)
        self.signum = signum
        self.exit_code = 128 + signum

    @property
    def signal_name(self) -> str:
        return signal.Signals(self.signum).name


def disk_error(error: Exception, path: str | Path, every_os_error: bool = False) -> RunError | None:
    """The plain words for an error of the disk below `path`, or None when it is something else.

    Libraries wrap the system's error in their own types, so the text is looked at too.

    Args:
        every_os_error: the error came from writing `path`, so that a denied permission or a file in the way speaks
            of it too. Otherwise only what is surely about writing counts: full, over quota, read-only.
    """
    known = _PLAIN if every_os_error else {number: _PLAIN[number] for number in _SURELY_WRITING}
    number = error.errno if isinstance(error, OSError) else None
    if number not in known:
        number = next((n for n in _SURELY_WRITING if os.strerror(n) in str(error)), None)
    if number is not None:
        return RunError(f"cannot write {path}: {_PLAIN[number]}")
    if every_os_error and isinstance(error, OSError):
        return RunError(f"cannot write {path}: {error}")
    return None


@contextmanager
def disk_errors(path: Path, every_os_error: bool = False) -> Iterator[None]:
    """Errors of the disk as one line that names the folder."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        told = disk_error(error, path, every_os_error)
        if told is None:
            raise
        raise told from error
