"""slowfast_pool: rows in their places, for TPU and GPU step by step on this machine."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from tests.kernels.close import compare, drawn, exactly, in_float64, rounded, values_and_pulls
from vidlmm.kernels import KernelError, slowfast_pool
from vidlmm.kernels.slowfast_pool import gpu, reference
from vidlmm.kernels.slowfast_pool.rows import Rows
from vidlmm.kernels.specs import POOLS, PoolSpec, cut_pool

INTERPRETED: dict[str, Any] = {"backend": "tpu", "interpret": True}
ON_GPU: dict[str, Any] = {"backend": "gpu", "interpret": True}
XLA: dict[str, Any] = {"backend": "xla"}


def _call(spec: PoolSpec, **options):
    def call(x, newline, faster):
        return slowfast_pool(
            x,
            newline if spec.newline else None,
            faster if spec.every else None,
            mode=spec.mode,
            stride=spec.stride,
            every=spec.every,
            **options,
        )

    return call


def _specified(spec: PoolSpec):
    rows = Rows(spec.side, spec.mode, spec.stride, spec.every, spec.newline, spec.every > 0)

    def specified(x, newline, faster):
        return reference.slowfast_pool(x, newline if spec.newline else None, faster if spec.every else None, rows)

    return specified


def _arrays(spec: PoolSpec, seed: int) -> list[np.ndarray]:
    return drawn(seed, (spec.frames, spec.side**2, spec.width), (spec.width,), (spec.width,))


def _compare(found, wanted, spec: PoolSpec, dtype: str) -> None:
    """A learned row that a spec lacks has no gradient."""
    there = [True, True, spec.newline, spec.every > 0]
    assert not any(np.any(one) for one, some in zip(found, there, strict=True) if not some)
    keep = [number for number, some in enumerate(there) if some]
    compare([found[k] for k in keep], [wanted[k] for k in keep], dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", [spec for spec in POOLS if spec.name != "llavaction_7b"], ids=lambda spec: spec.name)
def test_values_and_gradients(spec, dtype):
    """Grids, strides and patterns of every system."""
    spec = replace(cut_pool(spec), width=128)
    arrays = rounded(_arrays(spec, spec.side + spec.stride), dtype)
    wanted = in_float64(_specified(spec), exactly(arrays), 7)
    for options in (INTERPRETED, ON_GPU, *([XLA] if dtype == "float32" else [])):
        _compare(values_and_pulls(_call(spec, **options), arrays, 7), wanted, spec, dtype)


def test_several_groups_and_blocks():
    """Frames of several steps of which the last is not full, each step some columns wide."""
    spec = PoolSpec("groups", 29, 8, 0, 256, "average", 2, every=3)
    arrays = rounded(_arrays(spec, 3), "float32")
    wanted = in_float64(_specified(spec), exactly(arrays), 7)
    for options in (INTERPRETED, ON_GPU):
        for block in (128, 256):
            _compare(values_and_pulls(_call(spec, block=block, **options), arrays, 7), wanted, spec, "float32")


def test_a_width_of_no_whole_block():
    """On a GPU what stands over is masked; equal rows of a window share its pull."""
    spec = PoolSpec("odd", 3, 5, 0, 72, "max", 2, every=2)
    arrays = rounded(_arrays(spec, 5), "float32")
    arrays[0] = jnp.round(arrays[0])
    wanted = in_float64(_specified(spec), exactly(arrays), 7)
    for block in (None, 16):
        _compare(values_and_pulls(_call(spec, block=block, **ON_GPU), arrays, 7), wanted, spec, "float32")


def test_a_gpu_reads_tokens_that_have_a_cell():
    """LLaVA-Video-7B with its pattern: each token of a cell once, each row of the video once, and tables."""
    setup = gpu.Setup(Rows(27, "average", 2, 3, True, True), 9)
    tables, sizes = gpu.tables_of(setup.rows, 9), gpu.sizes_of(3584, jnp.bfloat16, setup)
    launch = gpu.forward_launch(sizes, tables)
    tokens, cells, learned = 3 * 26**2 + 6 * 24**2, 3 * 13**2 + 6 * 6**2, 3 * 13 + 6 * 6 + 9
    small = 4 * (cells + learned) * (4 + 2 * 16)
    assert launch.asked == 2 * 3584 * (tokens + learned + cells + learned) + 4 * small
    assert gpu.backward_launch(sizes, tables).asked > 2 * 3584 * (9 * 27**2 + tokens)


def test_the_packed_order():
    """A 4 x 4 grid with stride 1: cells of a line, its newline, and the faster token behind the frame."""
    x = jnp.arange(2 * 16, dtype=jnp.float32).reshape(2, 16, 1)
    newline, faster = jnp.asarray([-1.0]), jnp.asarray([-2.0])
    call = partial(slowfast_pool, mode="max", stride=1, every=2)
    wanted = [0, 1, 2, 3, -1, 4, 5, 6, 7, -1, 8, 9, 10, 11, -1, 12, 13, 14, 15, -1, -2, 21, 23, -1, 29, 31, -1, -2]
    for options in (INTERPRETED, ON_GPU, XLA):
        np.testing.assert_array_equal(call(x, newline, faster, **options)[:, 0], wanted)


def test_limits():
    """Raised before anything is traced."""
    x, row = jnp.zeros((2, 64, 128)), jnp.zeros(128)
    call = partial(slowfast_pool, mode="average", stride=2, **INTERPRETED)
    with pytest.raises(KernelError, match="no square grid"):
        call(x[:, :63], row, row)
    with pytest.raises(KernelError, match="leaves nothing"):
        slowfast_pool(x, row, row, mode="average", stride=5, every=2, **INTERPRETED)
    with pytest.raises(KernelError, match="0 for all alike; got -1"):
        call(x, row, row, every=-1)
    with pytest.raises(KernelError, match="multiples of 128"):
        call(jnp.zeros((2, 64, 1100)), None, None)
    with pytest.raises(KernelError, match="bfloat16 or float32"):
        call(x.astype(jnp.float16), None, None)
    with pytest.raises(KernelError, match="more than a step holds"):
        call(jnp.zeros((64, 729, 128)), row, row, every=17)
