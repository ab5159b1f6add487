"""Preference stages in real processes, killed at seeded places: the same command ends as if nothing had happened."""

import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.train import child, pair_child, pair_run
from tests.train.test_run import losses, same_weights
from vidlmm.train.loop import train
from vidlmm.train.pair_source import PairSource
from vidlmm.train.progress import Progress
from vidlmm.train.reference_file import SUFFIX, load_reference

# How often a whole run of six steps comes to each moment; a run that goes on comes there once at least.
TIMES = {"reference": 3, "table": 4, "batch": 6, "held": 2, "save": 3, "meta": 3}

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, compile_cache: Path) -> tuple[Path, Path]:
    """The folder of a run that nothing happened to, and its pairs."""
    place = tmp_path_factory.mktemp("undisturbed")
    pairs = pair_run.write_pairs(place / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDLMM_CACHE", str(compile_cache))
        finish(pairs, place / "run")
    return place / "run", pairs


def finish(pairs: Path, run: Path) -> str:
    stream = io.StringIO()
    train(pair_run.config(pairs), run, PairSource, progress=Progress(stream))
    return stream.getvalue()


def kill(run: Path, pairs: Path, cache: Path, moment: str, count: int) -> None:
    """The run in a process that dies when it comes to `moment` for the count-th time."""
    command = [sys.executable, "-m", "tests.train.pair_child", *map(str, (run, pairs, moment, count))]
    environment = {**os.environ, "VIDLMM_CACHE": str(cache), "PYTHONPATH": "."}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    code, errors = child.ended(process)
    assert code == -signal.SIGKILL, f"{moment} {count} did not come: {errors}"


@pytest.mark.parametrize("seed", range(3))
def test_killed_while_the_reference_is_computed_and_again_while_it_trains(
    seed: int, undisturbed: tuple[Path, Path], tmp_path: Path, compile_cache: Path
) -> None:
    whole, its_pairs = undisturbed
    rng, run = np.random.default_rng(seed), tmp_path / "run"
    pairs = Path(shutil.copytree(its_pairs.parent, tmp_path / "data")) / its_pairs.name
    table = pairs.with_name(pairs.name + SUFFIX)
    table.unlink()
    # Both moments of the reference come, and every moment of the steps over a few seeds.
    early, late = pair_child.REFERENCE_MOMENTS[seed % 2], str(rng.choice(pair_child.STEP_MOMENTS))
    count = int(rng.integers(1, TIMES[early] + 1))
    kill(run, pairs, compile_cache, early, count)
    held = load_reference(table, {})
    # What had its name before the kill is there and is right, and nothing else is.
    assert (0 if held is None else held.done) == min(count - 1, 3)
    if held is not None:
        known = ~np.isnan(held.values)
        assert known[: 4 * held.done].all() and known.sum() == known[: 4 * held.done].size
    kill(run, pairs, compile_cache, late, int(rng.integers(1, TIMES[late] + 1)))
    finish(pairs, run)
    assert table.read_bytes() == its_pairs.with_name(table.name).read_bytes()
    assert (run / "reference-0.npz").read_bytes() == (whole / "reference-0.npz").read_bytes()
    assert losses(run) == losses(whole) and same_weights(run, whole)


@pytest.mark.parametrize("seed", range(2))
def test_killed_twice_while_it_trains(
    seed: int, undisturbed: tuple[Path, Path], tmp_path: Path, compile_cache: Path
) -> None:
    whole, pairs = undisturbed
    rng, run = np.random.default_rng([7, seed]), tmp_path / "run"
    for times in (TIMES, dict.fromkeys(TIMES, 1)):  # the reference's table is there from the start
        moment = str(rng.choice(pair_child.STEP_MOMENTS))
        kill(run, pairs, compile_cache, moment, int(rng.integers(1, times[moment] + 1)))
    finish(pairs, run)
    assert losses(run) == losses(whole) and same_weights(run, whole)
