"""What every platform can run, plain JAX, and what GPUs can: lowered at the real shapes with the gradients."""

import re
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from vidlmm.kernels import (
    compiling_for,
    project_pool,
    slowfast_pool,
    splice,
    stc_downsample,
    temporal_pool,
)
from vidlmm.kernels.cases import Case, both_directions, every_case

PLAIN, ON_GPU = every_case("xla"), every_case("gpu")
# A shape of each kernel, the oddest of them.
ODD = (
    "project_pool-llava_video_7b_released",
    "slowfast_pool-llava_video_72b",
    "splice-llava_video_7b",
    "temporal_pool-valley_7b_v2",
    "temporal_attend-valley_7b_v3",
    "tree_attention-llava_video_7b",
    "stc_downsample-videollama2_1_7b_16f_released",
    "depthwise_norm-videollama2_1_7b_before",
)


def _lowered(case: Case, *platforms: str) -> str:
    arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in case.shapes]
    return (
        jax.jit(both_directions(case.call, case.results)).trace(*arrays).lower(lowering_platforms=platforms).as_text()
    )


@pytest.mark.parametrize("name", ODD)
def test_lowers_everywhere(name: str):
    """For CUDA, ROCm, TPU and CPU in one program."""
    assert "custom_call" not in _lowered(PLAIN[name], "cuda", "rocm", "tpu", "cpu")


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
    assert kernel in names and any(name.startswith((f"{kernel}_dz", f"{kernel}_dx")) for name in names)


class _V5p:
    platform, device_kind = "tpu", "TPU v5p"


@pytest.mark.parametrize(("dtype", "kernel"), [(jnp.float16, False), (jnp.float32, True)])
@pytest.mark.parametrize("name", ["project_pool", "slowfast_pool", "temporal_pool", "splice", "stc_downsample"])
def test_auto_leaves_to_plain_jax_what_a_kernel_does_not_take(name: str, dtype: Any, kernel: bool) -> None:
    """On a TPU; half precision is no error, as it is where the kernel is named."""
    width = 128

    def array(*shape: int, kind: Any = dtype) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, kind)

    one = array(5, kind=jnp.int32)
    calls: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "project_pool": (
            lambda x, w, b: project_pool(x, w, b, mode="average", stride=2),
            (array(2, 16, 128), array(128, width), array(width)),
        ),
        "slowfast_pool": (
            lambda x, n: slowfast_pool(x, n, None, mode="average", stride=2, every=0),
            (array(2, 16, width), array(width)),
        ),
        "temporal_pool": (
            lambda x, n: temporal_pool(x, n, variant="v1"),
            (array(2, 3, 17, width), array(2, kind=jnp.int32)),
        ),
        "splice": (lambda t, r, x: splice(t, r, [x]), (one, one, array(4, width))),
        "stc_downsample": (
            lambda x, w, b: stc_downsample(x, w, b),
            (array(1, 2, 16, width), array(2, 2, 2, width, width), array(width)),
        ),
    }
    call, arrays = calls[name]
    with compiling_for(_V5p()):
        assert ("pallas_call" in str(jax.make_jaxpr(call)(*arrays))) == kernel
