"""A run: its stages one after the other, resumable at any moment by the same command."""

import math
from pathlib import Path

from vidlmm.checkpoint.names import Params
from vidlmm.checkpoint.run import Run, finish_run
from vidlmm.parallel import use_compilation_cache
from vidlmm.train.errors import disk_errors
from vidlmm.train.job import Job
from vidlmm.train.metrics import MetricsWriter, read_metrics
from vidlmm.train.progress import Progress, clock
from vidlmm.train.setup import Settings, plain
from vidlmm.train.signals import StopSignals
from vidlmm.train.sources import SourceFactory
from vidlmm.train.stage_loop import StageLoop


def train(
    config: Settings,
    workdir: str | Path,
    source_factory: SourceFactory | None = None,
    *,
    progress: Progress | None = None,
) -> Run:
    """Run all stages of a config; the same call again goes on where it stopped, and a finished run only says so.

    Args:
        config: as the files in configs/ give it.
        workdir: the RUN folder.
        source_factory: makes each stage's source; None takes `vidlmm.train.open_source`.
        progress: where lines go; standard error by default.

    Returns:
        The finished run.

    Raises:
        RunError: settings that cannot work, a disk that cannot be written, too many non-finite steps; one line each.
        RunInterrupted: Ctrl-C or SIGTERM, after the state was saved.
        RunFolderError, CheckpointError, DataError, WeightsError, MeshError: what their modules say.
    """
    progress = progress or Progress()
    if source_factory is None:
        # Here, because it brings grain and av, which a run on arrays of its own needs not.
        from vidlmm.train.open_source import open_source as source_factory
    settings = plain(config)
    with disk_errors(Path(workdir)):
        return _run_all(Job(settings, Path(workdir), source_factory, progress))


def _run_all(job: Job) -> Run:
    done = job.run.finished()
    if done is not None:
        job.progress.say(
            f"{job.run.folder} is finished: {done['steps']} steps, final loss {done['loss']:.4f}; nothing to do. "
            "Another --workdir starts another run."
        )
        return job.run
    use_compilation_cache()
    restored = job.store.restore(job.abstract, job.progress.say)
    begin = restored.step if restored else 0
    first = restored.meta["stage"] if restored else 0
    clock_before = restored.meta["seconds"] if restored else 0.0
    if restored:
        job.progress.say(f"{job.run.folder}: going on from step {begin}")
    params = {} if restored else job.first_params()
    with StopSignals() as signals, MetricsWriter(job.run.folder, begin, job.settings["log"]["tensorboard"]) as metrics:
        total = begin - (restored.meta["stage_step"] if restored else 0)
        for index in range(first, len(job.stages)):
            loop = StageLoop(job, index, total, signals, metrics, clock_before)
            params = loop.run(params, restored if index == first else None)
            total += loop.steps
            clock_before = loop.seconds
        metrics.flush()
    return _finish(job, params, total, clock_before)


def _finish(job: Job, params: Params, steps: int, seconds: float) -> Run:
    rows = list(read_metrics(job.run.metrics))
    loss = rows[-1]["loss"] if rows else math.nan
    with disk_errors(job.run.folder, every_os_error=True):
        summary = {"steps": steps, "loss": loss, "seconds": round(seconds, 1)}
        finish_run(job.run, {name: params[name] for name in job.whole}, job.export, summary)
    job.progress.say(f"{job.run.folder}: finished after {steps} steps in {clock(seconds)}, final loss {loss:.4f}")
    return job.run
