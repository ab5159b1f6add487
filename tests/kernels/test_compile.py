"""Every kernel at the real shapes of the systems through the TPU's own compiler, which needs no TPU (make compiles)."""

import re

import pytest

from vidlmm.kernels.cases import (
    NAMES,
    lowered,
    mesh,
    project_case,
    slowfast_case,
    temporal_case,
)
from vidlmm.kernels.specs import POOLS, TEMPORAL

CASES = {
    **{f"project_pool-{spec.name}": project_case(spec, backend="tpu") for spec in POOLS},
    **{f"slowfast_pool-{spec.name}": slowfast_case(spec, backend="tpu") for spec in POOLS},
    **{f"temporal_pool-{spec.name}": temporal_case(spec, backend="tpu") for spec in TEMPORAL},
}
# The first shape of each kernel on all targets; every other on one of them, in turn.
EVERYWHERE = {"project_pool-llava_video_7b", "slowfast_pool-llava_video_7b", "temporal_pool-valley_7b_v2"}
PROGRAMS = [
    (name, target)
    for number, name in enumerate(CASES)
    for turn, target in enumerate(NAMES)
    if name in EVERYWHERE or turn == number % len(NAMES)
]
pytestmark = pytest.mark.compiles


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
    assert called >= {kernel, f"{kernel}_dx"}
    assert program.compile().memory_analysis() is not None
