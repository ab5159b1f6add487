"""Every kernel at the real shapes of the systems through the TPU's own compiler, which needs no TPU."""

import re

import pytest

pytest.importorskip("libtpu", reason="the TPU compiler is not installed: pip install libtpu")

from vidlmm.kernels.cases import (
    NAMES,
    lowered,
    mesh,
    project_case,
    slowfast_case,
    splice_case,
    temporal_case,
)
from vidlmm.kernels.specs import POOLS, SPLICES, TEMPORAL

CASES = {
    **{f"project_pool-{spec.name}": project_case(spec, backend="tpu") for spec in POOLS},
    **{f"slowfast_pool-{spec.name}": slowfast_case(spec, backend="tpu") for spec in POOLS},
    **{f"splice-{spec.name}": splice_case(spec, backend="tpu") for spec in SPLICES},
    **{f"temporal_pool-{spec.name}": temporal_case(spec, backend="tpu") for spec in TEMPORAL},
}


@pytest.fixture(autouse=True)
def no_flags(monkeypatch):
    """The TPU's compiler reads the flags when it is loaded, and ends the process at one that it does not know."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)


@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize("name", CASES)
def test_compiles_forward_and_backward(name: str, target: str):
    """Inside jit and shard_map on a 2 x 2 mesh; the program calls the kernels of both directions."""
    program = lowered(CASES[name], mesh(target))
    kernel = name.split("-")[0] + "_tpu"
    called = set(re.findall(rf"{kernel}\w*", program.as_text()))
    assert kernel in called and any(name.startswith(f"{kernel}_dx") for name in called)
    assert program.compile().memory_analysis() is not None
