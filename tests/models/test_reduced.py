"""Where the models use kernels: the device decides, and every device runs one on its own part."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vidlmm.kernels.cases import mesh
from vidlmm.models import connector as connectors
from vidlmm.models.connector import Connector
from vidlmm.models.merge import gather_rows
from vidlmm.models.reduced import backend_of, projected_cells
from vidlmm.models.sharding import placed
from vidlmm.models.valley import FrameMean, FrameScores, FrameTransformer
from vidlmm.parallel import Rules, make_mesh
from vidlmm.spec import SYSTEMS, ConnectorSpec, SlowFastSpec

needs_compiler = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="pip install libtpu")


def test_four_devices_give_the_numbers_of_one() -> None:
    """Values and gradients, frames and columns on axes of their own."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "PYTHONPATH": ".", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "tests.models.reduced_on_mesh"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert set(found) == {"cells", "mean", "scores", "asked", "merge"}
    assert max(max(errors) for errors in found.values()) <= 1e-5, found


@pytest.mark.parametrize("mode", ["average", "bilinear"])
def test_the_tables_of_the_kernel_are_those_of_plain_jax(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both strides of SlowFast, with their gradients."""
    spec = ConnectorSpec(pool_mode=mode, slowfast=SlowFastSpec())
    graph, params = nnx.split(Connector(spec, 8, 25, 128, rngs=nnx.Rngs(0)))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 25, 8)), jnp.float32)

    def run() -> list[Any]:
        def total(params: Any, x: jax.Array) -> Any:
            tables = nnx.merge(graph, params)(x)
            return sum(jnp.sum(jnp.sin(table)) for table in tables), tables

        grads, tables = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(params, x)
        return jax.tree.leaves((tables, grads))

    wanted = run()
    monkeypatch.setattr(connectors, "backend_of", lambda _: "tpu")
    monkeypatch.setattr(connectors, "projected_cells", lambda *arrays: projected_cells(*arrays, interpret=True))
    for one, right in zip(run(), wanted, strict=True):
        np.testing.assert_allclose(one, right, rtol=1e-4, atol=1e-5)


def test_without_a_known_device_it_is_plain_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several devices and no rules: nobody says how a kernel is to be cut."""
    assert backend_of("project_pool") == "xla"
    monkeypatch.setattr(jax, "devices", lambda: pytest.fail("nothing is to be asked"))
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    assert backend_of("project_pool") == "xla"


@needs_compiler
def test_a_merge_for_tpu_runs_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under rules each device its own places, the vocabulary's rows brought to them; a width that the kernel does not
    take stays in plain JAX."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    rules = Rules(make_mesh({"data": 2, "context": 2}, list(mesh("v5e").devices.flat)), 2)
    everywhere = jax.sharding.NamedSharding(rules.mesh, jax.sharding.PartitionSpec())

    def array(kind: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, kind, sharding=everywhere)

    def lowered(width: int) -> Any:
        def total(tables: Any, plan: Any) -> Any:
            text, special, *visual = tables
            return jnp.sum(jnp.sin(gather_rows(plan[0], plan[1], text, special, visual, groups=2)))

        text, others = array(jnp.float32, 64, width), [array(jnp.bfloat16, rows, width) for rows in (2, 338, 72)]
        with placed(rules):
            return jax.jit(jax.grad(total)).lower((text, *others), (array(jnp.int32, 4, 512),) * 2)

    program = lowered(256)
    assert "splice_tpu_dx2" in program.as_text()
    program.compile()
    assert "splice_tpu" not in lowered(192).as_text()


@needs_compiler
@pytest.mark.parametrize(
    "name", ["llava_video_7b", "llava_video_7b_released", "valley2_7b", "valley_7b_v2", "valley_7b_v3"]
)
def test_a_program_for_tpu_runs_the_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is compiled here, where there is none; the devices of the mesh decide. A system that shows every patch of its
    pictures stays in plain JAX."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    devices = list(mesh("v5e").devices.flat)
    rules = Rules(make_mesh({"data": 2, "tensor": 2}, devices), 4)
    spec = SYSTEMS[name].connector
    modules: dict[str, Any] = {
        "valley_v1": FrameMean,
        "valley_v2": lambda: FrameScores(512, 256, rngs=nnx.Rngs(0)),
        "valley_v3": lambda: FrameTransformer(512, rngs=nnx.Rngs(0)),
    }
    make = modules.get(spec.temporal, lambda: Connector(replace(spec, slowfast=None), 64, 729, 512, rngs=nnx.Rngs(0)))
    graph, params = nnx.split(nnx.eval_shape(make))
    shape, more = ((4, 8, 257, 512), (jnp.zeros(4, jnp.int32),)) if spec.temporal != "none" else ((4, 729, 64), ())

    def total(params: Any, x: jax.Array) -> Any:
        found = nnx.merge(graph, params)(x, *more)
        return sum(jnp.sum(jnp.sin(one)) for one in jax.tree.leaves(found))

    everywhere = jax.sharding.NamedSharding(rules.mesh, jax.sharding.PartitionSpec())
    given = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere),
        (params, jax.ShapeDtypeStruct(shape, jnp.float32)),
    )
    with placed(rules):
        lowered = jax.jit(jax.grad(total, argnums=(0, 1))).lower(*given)
    kernels = {"none": "project_pool_tpu", "valley_v3": "temporal_attend_tpu"}
    kernel = kernels.get(spec.temporal, "temporal_pool_tpu")
    if name == "llava_video_7b_released":
        assert kernel not in lowered.as_text()
    else:
        assert f"{kernel}_dx" in lowered.as_text()
        lowered.compile()
