"""What every platform can run: plain JAX, lowered for each of them with its gradients."""

import jax
import jax.numpy as jnp
import pytest

from vidlmm.kernels.cases import Case, project_case, slowfast_case, splice_case, temporal_case
from vidlmm.kernels.specs import POOLS, SPLICES, TEMPORAL

CASES = {
    "project_pool": project_case(POOLS[2]),
    "slowfast_pool": slowfast_case(POOLS[1]),
    "splice": splice_case(SPLICES[0], 1),
    "temporal_pool": temporal_case(TEMPORAL[2]),
}


@pytest.mark.parametrize("name", CASES)
def test_lowers_everywhere(name: str):
    """At the real shapes: for CUDA, ROCm, TPU and CPU in one program."""
    case: Case = CASES[name]
    arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in case.shapes]

    def both(*arrays):
        out, back = jax.vjp(case.call, *arrays[:-1])
        return out, back(arrays[-1])

    text = jax.jit(both).trace(*arrays).lower(lowering_platforms=("cuda", "rocm", "tpu", "cpu")).as_text()
    assert "custom_call" not in text
