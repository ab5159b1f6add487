"""What a preference stage does beside its steps: the reference's log-probabilities before, held-out pairs between."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidlmm.checkpoint.names import Params, skeleton
from vidlmm.models import VideoLM
from vidlmm.models.params import Blank
from vidlmm.models.sharding import placed
from vidlmm.parallel import Rules, is_first, place_batch, replicated
from vidlmm.train.errors import RunError, RunInterrupted
from vidlmm.train.fingerprint import fingerprint
from vidlmm.train.job import Job
from vidlmm.train.preference_objective import tree_sums
from vidlmm.train.program import StageProgram
from vidlmm.train.reference_file import Reference, load_reference
from vidlmm.train.sources import PairsOfAnswers
from vidlmm.train.state import TrainState

# Seconds of work on the reference that a kill may cost.
_SAVE_EVERY = 20.0


def refer(job: Job, index: int, source: PairsOfAnswers, params: Params | None, stop: Callable[[], int | None]) -> None:
    """Give the source the reference's log-probabilities; what no file holds is computed, once.

    The reference is the model with which the stage begins. Its table stands beside the pairs for every run with the
    same reference and pairs, and once more in the run's folder, which is what a run that goes on reads.

    Args:
        params: the stage's first parameters; None where the run goes on within the stage.
        stop: the signal that asks the run to leave, if any.

    Raises:
        RunError: a table of other weights, pairs or settings. RunInterrupted: a signal came; what was computed is kept.
    """
    stage = job.stages[index]
    if stage.preference is None or not stage.preference.needs_reference:
        return
    own = job.run.folder / f"reference-{index}.npz"
    made_of = source.made_of(str(jnp.dtype(job.compute)))
    if params is None:
        table = load_reference(own, made_of)
        if table is None or not table.complete:
            raise RunError(f"stage {stage.name!r}: {own} is gone, so the run cannot go on; start another --workdir")
    else:
        table = _computed(job, index, source, params, made_of | {"weights": fingerprint(params)}, stop)
        if is_first():
            table.save(own)
    source.refer(table.values)


def _computed(
    job: Job,
    index: int,
    source: PairsOfAnswers,
    params: Params,
    made_of: dict[str, str],
    stop: Callable[[], int | None],
) -> Reference:
    """The whole table, from the file beside the pairs as far as that goes."""
    table = load_reference(source.file, made_of)
    if table is not None and table.complete:
        return table
    values = np.full((source.pairs, 2, 2), np.nan, np.float32) if table is None else table.values.copy()
    saved, run = time.monotonic(), _program(job, index)
    for batch, total, item in source.everything(values):
        found, pair = run(params, place_batch(job.mesh, item.arrays, job.stages[index].groups))
        known = np.asarray(pair) >= 0
        values[np.asarray(pair)[known]] = np.asarray(found)[known]
        job.progress.line(f"reference's log-probabilities  batch {batch + 1}/{total}", force=batch + 1 == total)
        table = Reference(made_of, values, batch + 1, total)
        signum = stop()
        if is_first() and (table.complete or signum or time.monotonic() - saved > _SAVE_EVERY):
            table.save(source.file)
            saved = time.monotonic()
        if signum:
            raise RunInterrupted(signum, f"stopped; {source.file} is saved, the same command goes on")
    assert table is not None  # there is at least one pair
    return table


def _program(job: Job, index: int) -> Callable[[Params, Any], tuple[jax.Array, jax.Array]]:
    """(parameters, batch) -> `Reference.values` of the batch's pairs [B, P, 2, 2], and their numbers [B, P]."""
    stage, chunk = job.stages[index], job.settings["loss_chunk"]
    held = skeleton(lambda: VideoLM(job.spec, rngs=Blank(), dtype=job.compute, param_dtype=job.dtype, remat="none"))
    rules = Rules(job.mesh, stage.groups) if job.mesh.size > 1 else None

    @partial(jax.jit, out_shardings=replicated(job.mesh))
    def run(params: Params, arrays: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        pair, model = arrays["pair"], held.model(params)
        shape = {"segments": 1, "branches": 2 * pair.shape[1], "compared": 2}
        with placed(rules):
            sums = tree_sums(model, arrays, **shape, chunk=chunk, groups=stage.groups)
        found = [x.reshape(*pair.shape, 2).astype(jnp.float32) for x in (sums.logp, sums.first)]
        return jnp.stack(found, axis=-1), pair

    return run


class HeldOut:
    """The held-out pairs of a stage, measured every `eval_every` steps and after the last one."""

    def __init__(self, job: Job, program: StageProgram, source: PairsOfAnswers):
        self._job, self._program, self._source = job, program, source
        self._every = program.stage.eval_every
        self._run: Callable[[Params, Params, Any], Any] | None = None

    def due(self, done: int, steps: int) -> bool:
        """Whether they are measured after step `done` of `steps`."""
        return self._every > 0 and self._source.held > 0 and (done % self._every == 0 or done == steps)

    def measure(self, state: TrainState, frozen: Params) -> dict[str, float]:
        """`eval_loss` and `eval_` before the names of the stage's metrics: means over the held-out pairs."""
        if self._run is None:
            self._run = self._compiled()
        totals: dict[str, float] = {}
        for item in self._source.measured():
            arrays = place_batch(self._job.mesh, item.arrays, self._program.stage.groups)
            for name, value in jax.device_get(self._run(state.trainable, frozen, arrays)).items():
                totals[name] = totals.get(name, 0.0) + float(value)
        pairs = totals.pop("pairs")
        return {f"eval_{name}": value / pairs for name, value in totals.items()}

    def _compiled(self) -> Callable[[Params, Params, Any], Any]:
        program, mesh = self._program, self._job.mesh
        rules = Rules(mesh, program.stage.groups) if mesh.size > 1 else None

        @partial(jax.jit, out_shardings=replicated(mesh))
        def run(trainable: Params, frozen: Params, arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
            with placed(rules):
                model = program.skeleton.model({**frozen, **trainable})
                loss, pairs, sums = program.loss(model, arrays)
            return {"loss": loss, "pairs": pairs, **{name: x for name, x in sums.items() if name != "accuracy"}}

        return run
