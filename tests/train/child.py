"""A toy run in a process of its own, which dies, stands still or gets a signal at a chosen moment.

The moments are places in the work, not times, so that a test hits the same one on every machine.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.train import toy
from tests.train.streamed import StreamedSource
from vidlmm.train.sources import Item, Source, SourceContext

# What `die` can name; the number beside it says at which one.
MOMENTS = ("batch", "save", "meta", "prune")


def start(run: Path, tokenizer: str, cache: Path, devices: int = 1, **options: Any) -> subprocess.Popen[str]:
    """The run of `toy.config(**options["config"])` in a process.

    Args:
        run: the RUN folder. cache: VIDLMM_CACHE. devices: simulated ones.
        options: `config`; `die`, `stop`, `stall`: (moment, count), where only `die` takes other moments than "batch";
            `hosts`: (coordinator, processes, process); `streamed`: whether batches are read as `vidlmm.data` does.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "VIDLMM_CACHE": str(cache), "PYTHONPATH": ".", "XLA_FLAGS": flags}
    told = json.dumps({"run": str(run), "tokenizer": tokenizer, **options})
    command = [sys.executable, "-m", "tests.train.child", told]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error."""
    try:
        _, errors = process.communicate(timeout=240)
    finally:
        process.kill()
    return process.returncode, errors


class Eventful:
    """A source; at the chosen batch of this process something happens. It gives this process's rows alone."""

    made = 0
    moments: dict[str, tuple[str, int]] = {}
    share = (0, 1)

    def __init__(self, source: Source):
        self._source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __next__(self) -> Item:
        Eventful.made += 1
        for what in ("die", "stop", "stall"):
            if self.moments.get(what) == ("batch", Eventful.made):
                _happen(what)
        item = next(self._source)
        index, parts = self.share
        rows = {name: array.reshape(parts, -1, *array.shape[1:])[index] for name, array in item.arrays.items()}
        ids = item.ids[index * len(item.ids) // parts :][: len(item.ids) // parts]
        return Item(rows, ids)


def _happen(what: str) -> None:
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "stop":
        os.kill(os.getpid(), signal.SIGTERM)
    if what == "stall":
        threading.Event().wait()


def die_at(moment: str, count: int) -> None:
    """Die at the count-th checkpoint: while its bytes are written, before it has its name, or while an old one goes."""
    import vidlmm.checkpoint.store as store

    def counted(function: Any, counts: Callable[..., bool]) -> Any:
        calls = 0

        def call(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += counts(*args, **options)
            answer = function(*args, **options)
            if calls == count:
                _happen("die")
            return answer

        return call

    if moment == "save":
        store.ocp.save_async = counted(store.ocp.save_async, lambda *_: True)
    if moment == "meta":
        store.write_atomic = counted(store.write_atomic, lambda path, _: path.name == store.META)
    if moment == "prune":  # after an old one has lost its name, before it is removed
        store.os.replace = counted(store.os.replace, lambda _, to: str(to).endswith(".tmp"))


def main(told: str) -> int:
    options = json.loads(told)
    from vidlmm.parallel import leave, process_count, start_hosts
    from vidlmm.train.errors import RunInterrupted
    from vidlmm.train.loop import train

    Eventful.moments = {what: tuple(options[what]) for what in ("die", "stop", "stall") if what in options}
    if "hosts" in options:
        start_hosts(*options["hosts"], seconds=60)
        Eventful.share = (options["hosts"][2], options["hosts"][1])
    changes = options.get("config", {})
    config = toy.config(*changes.pop("stages", ()), tokenizer=options["tokenizer"], **changes)
    made = StreamedSource if options.get("streamed") else toy.ToySource

    def factory(context: SourceContext) -> Any:
        return Eventful(made(context))

    die_at(*Eventful.moments.get("die", ("", 0)))
    try:
        train(config, options["run"], factory)
    except RunInterrupted as error:
        print(f"vidlmm: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if process_count() > 1:  # as `vidlmm train` does
            leave(f"vidlmm: {error}", 1)
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
