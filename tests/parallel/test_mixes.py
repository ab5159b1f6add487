"""The same numbers on every mesh: eight simulated devices beside one, two processes beside one."""

import json
import os
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.parallel import clips, mixes, tiny


def start(module: str, devices: int, *arguments: str) -> subprocess.Popen[str]:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "PYTHONPATH": ".", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-m", f"tests.parallel.{module}", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def report(process: subprocess.Popen[str]) -> dict[str, Any]:
    try:
        out, errors = process.communicate(timeout=280)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return next((json.loads(line) for line in out.splitlines() if line.startswith("{")), {})


@pytest.mark.parametrize("model", ["qwen", "mixtral"])
def test_eight_devices_give_the_numbers_of_one(model: str) -> None:
    found = report(start("mixes", 8, model))
    for mix, (loss, gradients) in found["gradients"].items():
        assert loss <= 1e-6, mix
        assert max(gradients.values()) <= 1e-5, (mix, gradients)
    assert len(found["gradients"]) == len(mixes.GRADIENTS[model])
    # Adam's first steps follow the sign of rounding noise in float32, so updates are compared in float64.
    mix, parameters = found["updates"]
    assert max(parameters.values()) <= 1e-9, (mix, parameters)
    # Nothing is brought together whole: no layers' parameters at once, no buffer of frames, no batch of states.
    spec = tiny.SPECS[model]
    limit = min(tiny.ROWS * tiny.LENGTH * spec.decoder.width, tiny.FRAMES * 3 * spec.pixels.size**2)
    assert found["gathers"]
    assert [line for size, line in found["gathers"] if size >= limit] == []
    assert [line for size, line in found["gathers"] if not size % tiny.LAYERS or not size % tiny.TOWER_LAYERS] == []


def test_a_connector_of_clips_on_eight_devices() -> None:
    found = report(start("clips", 8))
    assert len(found) == len(clips.MESHES)
    for mesh, distances in found.items():
        assert max(distances.values()) <= 1e-5, (mesh, distances)


def test_two_processes_give_the_losses_of_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    first, second = (start("pair", 1, address, str(process)) for process in range(2))
    try:
        found, _ = report(first), report(second)
    finally:
        second.kill()
    for mesh, losses in found["together"].items():
        np.testing.assert_allclose(losses[0], found["alone"][0], rtol=1e-6, err_msg=mesh)
        np.testing.assert_allclose(losses, found["alone"], rtol=1e-3, err_msg=mesh)
