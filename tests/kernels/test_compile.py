"""Every kernel at the real shapes of the systems through the compilers of TPUs and GPUs, which need none of them.

`make compiles` installs the compilers; without them these tests fail.
"""

import re

import jax
import jax.numpy as jnp
import pytest

from vidlmm.kernels import compiling_for
from vidlmm.kernels.cases import NAMES, both_directions, every_case, gpu, lowered, mesh

CASES, ON_GPU = every_case("tpu"), every_case("gpu")
# `make compiles` takes the first shape of these kernels on all targets, every other on one of them, in turn.
EVERYWHERE = {
    "project_pool-llava_video_7b",
    "slowfast_pool-llava_video_7b",
    "temporal_pool-valley_7b_v2",
    "temporal_attend-valley_7b_v3",
}
PROGRAMS = [
    pytest.param(
        name,
        target,
        marks=pytest.mark.compiles if name in EVERYWHERE or turn == number % len(NAMES) else pytest.mark.everywhere,
    )
    for number, name in enumerate(CASES)
    for turn, target in enumerate(NAMES)
]


@pytest.fixture(autouse=True)
def no_flags(monkeypatch):
    """The TPU's compiler reads the flags when it is loaded, and ends the process at one that it does not know."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)


@pytest.mark.parametrize(("name", "target"), PROGRAMS)
def test_compiles_forward_and_backward(name: str, target: str):
    """Inside jit and shard_map on a 2 x 2 mesh; the program calls the kernels of both directions."""
    program = lowered(CASES[name], mesh(target))
    kernel = name.split("-")[0] + "_tpu"
    called = set(re.findall(rf"{kernel}\w*", program.as_text()))
    assert kernel in called and any(name.startswith(f"{kernel}_dx") for name in called)
    assert program.compile().memory_analysis() is not None


@pytest.mark.compiles
@pytest.mark.parametrize("name", ON_GPU)
def test_compiles_for_an_h100(name: str):
    """Both directions in one program, to the machine's code: what a program of a kernel holds fits."""
    device = gpu()
    place = jax.sharding.SingleDeviceSharding(device)
    case = ON_GPU[name]
    arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=place) for shape in case.shapes]
    with compiling_for(device):
        program = jax.jit(both_directions(case.call, case.results)).lower(*arrays).compile()
    called = re.findall(r'custom_call_target="[^"]*triton', program.as_text() or "")
    assert len(called) >= 2
