"""What every platform can run, plain JAX, and what GPUs can: lowered at the real shapes with the gradients."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from vidlmm.kernels import compiling_for
from vidlmm.kernels.cases import (
    Case,
    attention_case,
    both_directions,
    project_case,
    slowfast_case,
    splice_case,
    stage_case,
    stc_case,
    temporal_case,
)
from vidlmm.kernels.specs import POOLS, ROWS, SPLICES, STAGES, STC, TEMPORAL

CASES = {
    "project_pool": project_case(POOLS[2]),
    "slowfast_pool": slowfast_case(POOLS[1]),
    "splice": splice_case(SPLICES[0], 1),
    "temporal_pool": temporal_case(TEMPORAL[2]),
    "tree_attention": attention_case(ROWS[0]),
    "stc_downsample": stc_case(STC[4]),
    "depthwise_norm": stage_case(STAGES[2]),
}
ON_GPU = {
    **{f"project_pool-{spec.name}": project_case(spec, backend="gpu") for spec in POOLS},
    **{f"slowfast_pool-{spec.name}": slowfast_case(spec, backend="gpu") for spec in POOLS},
    **{f"temporal_pool-{spec.name}": temporal_case(spec, backend="gpu") for spec in TEMPORAL},
}


def _lowered(case: Case, *platforms: str) -> str:
    arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in case.shapes]
    return jax.jit(both_directions(case.call)).trace(*arrays).lower(lowering_platforms=platforms).as_text()


@pytest.mark.parametrize("name", CASES)
def test_lowers_everywhere(name: str):
    """For CUDA, ROCm, TPU and CPU in one program."""
    assert "custom_call" not in _lowered(CASES[name], "cuda", "rocm", "tpu", "cpu")


@pytest.mark.skipif(
    jax.__version_info__ > (0, 10, 2), reason="this JAX compiles for GPUs while it lowers: make compiles does that"
)
@pytest.mark.parametrize("name", ON_GPU)
def test_lowers_for_cuda(name: str):
    """To Triton's instructions, those of both directions."""
    with compiling_for(SimpleNamespace(platform="gpu", device_kind="NVIDIA H100")):
        text = _lowered(ON_GPU[name], "cuda")
    names = set(re.findall(r'name = "(\w+)"', text))
    kernel = name.split("-")[0] + "_gpu"
    assert names >= {kernel, kernel + ("_dz" if "project" in name else "_dx")}
