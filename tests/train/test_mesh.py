"""Meshes: where arrays lie, and the same losses on several devices as on one."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from vidlmm.checkpoint.weights import read_weights
from vidlmm.parallel import MeshError, batch_shardings, cache_folder, make_mesh
from vidlmm.parallel.mesh import param_sharding
from vidlmm.train.metrics import read_metrics


def test_numbers_that_do_not_give_the_devices_are_refused() -> None:
    devices = list(range(8))
    with pytest.raises(MeshError, match=r"mesh data=3 x fsdp=2 does not give the 8 device\(s\)"):
        make_mesh(3, 2, devices)
    with pytest.raises(MeshError, match="data=2 x fsdp=3"):
        make_mesh(-1, 3, devices)


@pytest.mark.parametrize(("data", "fsdp", "shape"), [(-1, 1, (1, 1)), (1, -1, (1, 1)), (-1, -1, (1, 1))])
def test_minus_one_takes_what_is_left(data: int, fsdp: int, shape: tuple[int, int]) -> None:
    mesh = make_mesh(data, fsdp, jax.devices()[:1])
    assert (mesh.shape["data"], mesh.shape["fsdp"]) == shape


@pytest.mark.parametrize(
    ("shape", "spec"),
    [((28, 3584, 18944), (None, None, "fsdp")), ((152064, 3584), ("fsdp",)), ((26, 1152), (None, "fsdp")),
     ((7, 9), ()), ((), ()), ((4,), ())],
)  # fmt: skip
def test_a_parameter_is_split_along_its_largest_divisible_dimension(shape: tuple[int, ...], spec: tuple) -> None:
    mesh = AbstractMesh((2, 8), ("data", "fsdp"))
    assert param_sharding(mesh, shape).spec == PartitionSpec(*spec)


def test_a_batch_is_split_over_all_devices_or_refused() -> None:
    mesh = AbstractMesh((2, 4), ("data", "fsdp"))
    arrays = {"frames": np.zeros((16, 2)), "ids": np.zeros((8, 3)), "none": np.zeros((0, 3))}
    specs = {name: sharding.spec for name, sharding in batch_shardings(mesh, arrays).items()}
    whole = PartitionSpec(("data", "fsdp"))
    assert specs == {"frames": whole, "ids": whole, "none": PartitionSpec()}
    with pytest.raises(MeshError, match=r"batch\.ids has 9 rows, which 8 devices do not divide"):
        batch_shardings(mesh, {"ids": np.zeros((9, 3))})


def test_four_devices_give_the_losses_of_one(whole: Path, tmp_path: Path, tokenizer: str, compile_cache: Path) -> None:
    flags = "--xla_force_host_platform_device_count=4"
    environment = {**os.environ, "VIDLMM_CACHE": str(compile_cache), "PYTHONPATH": ".", "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "tests.train.toy", str(tmp_path / "run"), tokenizer, "0", "2"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    one, four = ([row["loss"] for row in read_metrics(run / "metrics.jsonl")] for run in (whole, tmp_path / "run"))
    # The first two see the same weights, for the first rate is 0; Adam's steps follow the sign of rounding noise.
    np.testing.assert_allclose(four[:2], one[:2], rtol=1e-6)
    np.testing.assert_allclose(four, one[:6], rtol=1e-3)
    assert set(read_weights(tmp_path / "run" / "model.safetensors")) == set(read_weights(whole / "model.safetensors"))


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDLMM_CACHE", "/some/where")
    assert cache_folder() == Path("/some/where/jax")
    monkeypatch.setenv("VIDLMM_CACHE", "off")
    assert cache_folder() is None
    monkeypatch.delenv("VIDLMM_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "vidlmm" / "jax"


def test_the_step_stands_on_jax_alone() -> None:
    """A bare JAX machine has no grain, av or ml_collections; kernels to the train step must import there."""
    modules = "kernels models losses parallel train.step train.state train.optimizer train.objectives train.program"
    code = (
        "import sys, importlib\n"
        "for name in ('grain', 'av', 'ml_collections', 'tokenizers', 'sentencepiece'): sys.modules[name] = None\n"
        f"for name in {modules.split()}: importlib.import_module('vidlmm.' + name)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": "."}, capture_output=True)
    assert ended.returncode == 0, ended.stderr.decode()
