"""Which of many media files cannot be used? Every file is opened in a process apart, several at a time.

A file that kills or hangs the decoder costs its process and a line in the report, nothing else.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidlmm.media.errors import Kind
from vidlmm.media.limits import DEFAULT_LIMITS, Limits
from vidlmm.media.suffixes import MEDIA_SUFFIXES

_GRACE = 5.0  # seconds over the file's own limit after which its process is killed


@dataclass(frozen=True)
class CheckResult:
    """What became of one file.

    kind: None for a good file, else what is wrong with it.
    detail: for a bad file what was found, for a good one what it holds.
    seconds: time that it took.
    """

    path: str
    kind: Kind | None
    detail: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the file can be used."""
        return self.kind is None

    def __str__(self) -> str:
        return f"{self.path}: {self.kind or 'ok'}: {self.detail}"


def media_files(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """The files among `paths`, whatever their names, and the media files inside the folders, sorted."""
    for path in paths:
        name = os.fspath(path)
        if not os.path.isdir(name):
            yield name
            continue
        for folder, folders, files in os.walk(name):
            folders.sort()
            yield from (os.path.join(folder, f) for f in sorted(files) if Path(f).suffix.lower() in MEDIA_SUFFIXES)


def check_paths(
    paths: Sequence[str | os.PathLike[str]],
    workers: int = 2,
    limits: Limits = DEFAULT_LIMITS,
    progress: Callable[[CheckResult], None] | None = None,
    frames: int | None = 16,
) -> list[CheckResult]:
    """Open all media files among and under `paths`, decode some frames of each, and say how it went.

    Args:
        paths: files, or folders that are walked through for media by suffix.
        workers: processes at a time.
        limits: for each file; after `limits.seconds` its process is killed.
        progress: told of every file as it is done, from the caller's thread.
        frames: frames to decode of a video, spread evenly; None decodes every frame.

    Returns results in the order of `paths` and names, not of completion.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; expected at least 1")
    files = list(media_files(paths))
    crew = [_Process(limits, frames) for _ in range(min(workers, len(files)))]
    idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
    for process in crew:
        idle.put(process)

    def check(path: str) -> CheckResult:
        process = idle.get()
        try:
            return process.check(path)
        finally:
            idle.put(process)

    pool = ThreadPoolExecutor(max(len(crew), 1))
    try:
        jobs = [pool.submit(check, path) for path in files]
        for job in as_completed(jobs):
            if progress is not None:
                progress(job.result())
        return [job.result() for job in jobs]
    finally:
        for process in crew:
            process.close()
        pool.shutdown(cancel_futures=True)


def write_report(results: Sequence[CheckResult], path: str | os.PathLike[str]) -> None:
    """Write all results as JSON: counts by kind, then one object a file."""
    kinds = [result.kind or "ok" for result in results]
    report = {
        "files": len(results),
        "bad": sum(not result.ok for result in results),
        "by_kind": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "results": [asdict(result) | {"ok": result.ok} for result in results],
    }
    Path(path).write_text(json.dumps(report, indent=2) + "\n")


class _Process:
    """A worker process that is started when first needed and again after it was lost."""

    def __init__(self, limits: Limits, frames: int | None) -> None:
        self._limits, self._frames = limits, frames
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def check(self, path: str) -> CheckResult:
        started = time.monotonic()
        reply = self._ask({"path": path, "frames": self._frames, "limits": asdict(self._limits)})
        return CheckResult(path, reply["kind"], reply["detail"], round(time.monotonic() - started, 3))

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._running()
        if process is None:
            return {"kind": "timed_out", "detail": "the check was stopped"}
        assert process.stdin is not None and process.stdout is not None  # both are pipes, see _running
        late = threading.Event()

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._limits.seconds + _GRACE, give_up)
        timer.start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:  # it died before it could read
            line = ""
        finally:
            timer.cancel()
        if line:
            return json.loads(line)
        code = _end(process)
        self._process = None
        if late.is_set():
            return {"kind": "timed_out", "detail": f"not done within {self._limits.seconds:g} s, its process killed"}
        return {"kind": "not_media", "detail": f"the decoder died on it (exit code {code})"}

    def _running(self) -> "subprocess.Popen[str] | None":
        with self._lock:
            if self._process is None and not self._closed:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "vidlmm.media.check_worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    env=os.environ | {"PYTHONPATH": _import_path()},
                )
            return self._process

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._process is not None:
                _end(self._process)


def _end(process: "subprocess.Popen[str]") -> int:
    """Kill it if it still runs, close its pipes, and give its exit code."""
    process.kill()
    code = process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # a request that nobody read
                pipe.close()
    return code


def _import_path() -> str:
    """Lets the worker find this very package, installed or not."""
    ours = str(Path(__file__).resolve().parents[2])
    given = os.environ.get("PYTHONPATH")
    return ours if not given else os.pathsep.join([ours, given])
