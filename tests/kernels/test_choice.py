"""What "auto" takes on a GPU and what it says, and for which device a kernel is traced."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidlmm.kernels import choose, compiling_for
from vidlmm.kernels.activations import erf_by_exp
from vidlmm.kernels.choice import PAYS

GPU = SimpleNamespace(platform="gpu", device_kind="NVIDIA H200")
TPU = SimpleNamespace(platform="tpu", device_kind="TPU v6 lite")


@pytest.mark.parametrize("kernel", PAYS)
def test_auto_takes_no_kernel_on_a_gpu(kernel):
    """None was measured, and it says so; the caller may name it."""
    choice = choose(kernel, device=GPU)
    assert choice.backend == "xla" and choice.why == "the kernel for GPUs was not measured on NVIDIA H200"
    assert choose(kernel, "gpu", GPU).backend == "gpu"


def test_compiling_for_another_device(monkeypatch):
    monkeypatch.setitem(PAYS, "project_pool", frozenset({"v6e"}))
    with compiling_for(TPU):
        assert choose("project_pool").backend == "tpu"
        with compiling_for(GPU):
            assert "H200" in choose("project_pool").why
        assert choose("project_pool").backend == "tpu"
    assert "cpu" in choose("project_pool").why


def test_erf_where_there_is_none():
    at = jnp.linspace(-5, 5, 4001)
    np.testing.assert_allclose(erf_by_exp(at), jax.lax.erf(at), atol=5e-7)
