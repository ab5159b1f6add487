"""One stage: compiles its step, feeds it, logs, saves."""

import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vidlmm.checkpoint.names import Params
from vidlmm.checkpoint.store import Restored
from vidlmm.parallel import place_batch
from vidlmm.train.errors import RunError, RunInterrupted, disk_errors
from vidlmm.train.job import Job
from vidlmm.train.metrics import MetricsWriter
from vidlmm.train.objectives import check_arrays
from vidlmm.train.optimizer import learning_rates
from vidlmm.train.prefetch import Prefetch, Ready
from vidlmm.train.program import StageProgram
from vidlmm.train.progress import clock, short
from vidlmm.train.signals import StopSignals
from vidlmm.train.state import TrainState
from vidlmm.train.step import compile_step


class StageLoop:
    """One stage: compiles its step, feeds it, logs, saves."""

    def __init__(
        self, job: Job, index: int, before: int, signals: StopSignals, metrics: MetricsWriter, clock_before: float
    ):
        self.job, self.index, self.before = job, index, before
        self.signals, self.metrics = signals, metrics
        self.stage = job.stages[index]
        self.began = time.monotonic() - clock_before
        self.steps = 0
        self.pending: deque[_Pending] = deque()
        self.window = _Window()

    @property
    def seconds(self) -> float:
        """Seconds of the whole run, earlier processes included."""
        return time.monotonic() - self.began

    def run(self, params: Params, restored: Restored | None) -> Params:
        """All steps that are left; the parameters of the whole model come back."""
        program = self.job.program(self.index)
        source = self.job.source(self.index)
        prefetch = None
        try:
            self.steps = self.stage.steps or math.ceil(self.stage.epochs * source.batches_an_epoch())
            state, frozen, idle = program.restore(restored.arrays) if restored else program.begin(params)
            params = {}  # so that the arrays that the step replaces are not held twice
            done, position = 0, None
            if restored:
                done, position = restored.meta["stage_step"], restored.meta["position"]
                if position is not None:
                    source.restore(position)
            if done < self.steps:
                prefetch = Prefetch(source, self._place, self.job.settings["data"]["ahead"])
                state = self._steps(program, prefetch, state, frozen, idle, done, position)
            return program.end(state, frozen, idle)
        finally:
            if prefetch is not None:
                prefetch.close()
            else:
                source.close()

    def _place(self, arrays: dict[str, Any]) -> dict[str, jax.Array]:
        check_arrays(self.stage, arrays)
        return place_batch(self.job.mesh, arrays)

    def _steps(
        self,
        program: StageProgram,
        prefetch: Prefetch,
        state: TrainState,
        frozen: Params,
        idle: Params,
        done: int,
        position: dict[str, Any] | None,
    ) -> TrainState:
        step, saved_at = None, time.monotonic()
        every, minutes = (self.job.settings["checkpoint"][key] for key in ("every_steps", "every_minutes"))

        def save() -> None:
            self._drain(0)
            meta = {"stage": self.index, "stage_step": done, "position": position, "seconds": self.seconds}
            with disk_errors(self.job.run.checkpoints, every_os_error=True):
                self.metrics.flush()
                self.job.store.save(self.before + done, program.tree(state, frozen, idle), meta)

        while done < self.steps:
            ready = prefetch.get(self.signals.stopped)
            if self.signals.signum is not None:
                save()
                self._leave(self.signals.signum)
            if ready is None:
                raise RunError(f"stage {self.stage.name!r}: its source ended after {done} of {self.steps} steps")
            rates = jnp.asarray(learning_rates(self.stage, self.steps, done))
            if step is None:
                self.job.progress.line(f"{self._title(done)}  compiling", force=True)
                step = compile_step(program.step(), state, frozen, ready.arrays, rates)
                self.window = _Window(waited=prefetch.waited)
            state, values = step(state, frozen, ready.arrays, rates)
            done, position = done + 1, ready.position
            self.pending.append(_Pending(done, float(rates[0]), values, ready, prefetch.waited))
            self._drain(1)
            due = minutes > 0 and time.monotonic() - saved_at > 60 * minutes
            if done == self.steps or due or (every > 0 and (self.before + done) % every == 0):
                save()
                saved_at = time.monotonic()
                self.window.forgive(prefetch.waited)
        self.job.progress.end()
        return state

    def _drain(self, leave: int) -> None:
        """Read the values of all steps but the last `leave`, so that the device always has work waiting."""
        while len(self.pending) > leave:
            self._record(self.pending.popleft())

    def _record(self, pending: "_Pending") -> None:
        values = {name: float(value) for name, value in jax.device_get(pending.values).items()}
        self.window.add(pending)
        self._guard(values, pending)
        speed = self.window.speed(pending.waited)
        left = self._time_left(pending.done, speed)
        every = max(1, self.job.settings["log"]["every"])
        if pending.done % every == 0 or pending.done == self.steps:
            row = {"step": self.before + pending.done, "stage": self.stage.name, "stage_step": pending.done}
            row |= values | {"lr": pending.rate} | {name: round(value, 4) for name, value in speed.items()}
            self.metrics.write(row | {"seconds": round(self.seconds, 2)})
            self.window = _Window(waited=pending.waited)
        wait = f"{speed['data_wait']:.0%}"
        self.job.progress.line(
            f"{self._title(pending.done)}  loss {values['loss']:.4f}  accuracy {values['accuracy']:.3f}  "
            f"{short(speed['tokens_per_second'])} tokens/s  {short(speed['frames_per_second'])} frames/s  "
            f"data wait {wait}  {clock(left)} left",
            force=pending.done == self.steps,
        )

    def _guard(self, values: dict[str, float], pending: "_Pending") -> None:
        limit = self.job.settings["guards"]["skipped_in_row"]
        if values["skipped_in_row"] > 0:
            self.job.progress.say(
                f"{self._title(pending.done)}: loss {values['loss']}, gradient norm {values['grad_norm']}; step skipped"
            )
        if values["skipped_in_row"] > limit:
            ids = ", ".join(pending.ready.ids)
            raise RunError(
                f"stage {self.stage.name!r}: {int(values['skipped_in_row'])} steps in a row had a non-finite loss or "
                f"gradient (limit {limit}); the last one held the samples {ids}. Look at these samples, or lower the "
                "learning rate; the last checkpoint is kept"
            )

    def _leave(self, signum: int) -> None:
        stop = RunInterrupted(signum, "")
        raise RunInterrupted(
            signum, f"stopped by {stop.signal_name}; {self.job.run.folder} is saved, the same command goes on"
        )

    def _title(self, done: int) -> str:
        place = f"{self.index + 1}/{len(self.job.stages)}"
        return f"{self.stage.name} ({place})  step {done}/{self.steps or '?'}"

    def _time_left(self, done: int, speed: dict[str, float]) -> float:
        """Seconds of this stage and, by their token places, of those after it whose steps are known."""
        each = speed["seconds_a_step"]
        places = self.stage.rows * self.stage.length
        later = sum(s.steps * s.rows * s.length / places for s in self.job.stages[self.index + 1 :])
        return each * (self.steps - done + later)


@dataclass(frozen=True)
class _Pending:
    """A step that was handed to the device and whose values are not read yet."""

    done: int
    rate: float
    values: dict[str, jax.Array]
    ready: Ready
    waited: float


class _Window:
    """Counts between two logged steps, for the speeds."""

    def __init__(self, waited: float = 0.0):
        self.begin = time.perf_counter()
        self.waited = waited
        self.steps = self.tokens = self.frames = 0

    def add(self, pending: _Pending) -> None:
        self.steps += 1
        self.tokens += pending.ready.tokens
        self.frames += pending.ready.frames

    def forgive(self, waited: float) -> None:
        """Leave out the time of a save."""
        self.begin, self.waited = time.perf_counter(), waited
        self.steps = self.tokens = self.frames = 0

    def speed(self, waited: float) -> dict[str, float]:
        seconds = max(time.perf_counter() - self.begin, 1e-9)
        return {
            "tokens_per_second": self.tokens / seconds,
            "frames_per_second": self.frames / seconds,
            "data_wait": min(1.0, (waited - self.waited) / seconds),
            "seconds_a_step": seconds / max(1, self.steps),
        }
