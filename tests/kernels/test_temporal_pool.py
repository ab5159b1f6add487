"""temporal_pool: clips of several lengths, for TPU and GPU step by step on this machine."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.kernels.close import compare, drawn, exactly, in_float64, rounded, values_and_pulls
from vidlmm.kernels import KernelError, temporal_pool
from vidlmm.kernels.specs import TEMPORAL, ClipSpec, cut_clip
from vidlmm.kernels.temporal_pool import gpu, reference, tpu

INTERPRETED: dict[str, Any] = {"backend": "tpu", "interpret": True}
ON_GPU: dict[str, Any] = {"backend": "gpu", "interpret": True}
XLA: dict[str, Any] = {"backend": "xla"}


def _arrays(spec: ClipSpec, seed: int) -> list[np.ndarray]:
    cells = spec.side**2
    x, weight, bias = drawn(seed, (spec.clips, spec.frames, 1 + cells, spec.width), (cells, spec.width), (1,))
    return [x, weight * (cells * spec.width) ** -0.5, bias] if spec.variant == "v2" else [x]


def _function(of, length, **options):
    return lambda x, *layer: of(x, jnp.asarray(length), *(layer or (None, None)), **options)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", TEMPORAL[:3], ids=lambda spec: spec.name)
def test_values_and_gradients(spec, dtype):
    """A whole clip, a shorter one whose rest is never looked at, and none at all."""
    spec = cut_clip(spec)
    arrays = rounded(_arrays(spec, spec.frames), dtype)
    length = [spec.frames, spec.frames - 1]
    wanted = in_float64(_function(reference.temporal_pool, length), exactly(arrays), 7)
    # Whatever stands behind the end of a clip.
    arrays[0] = arrays[0].at[1, -1].set(jnp.nan)
    for options in (INTERPRETED, ON_GPU, XLA):
        found = values_and_pulls(_function(temporal_pool, length, variant=spec.variant, **options), arrays, 7)
        # The bias moves all scores of a clip alike: its gradient is zero but for rounding.
        compare(found[:3], wanted[:3], dtype)
        assert not np.any(found[1][1, -1])


def test_a_clip_without_frames():
    """Zeros, and no gradient."""
    spec = cut_clip(TEMPORAL[2])
    arrays = rounded(_arrays(spec, 3), "float32")
    for options in (INTERPRETED, ON_GPU):
        function = _function(temporal_pool, [0, 2], variant="v2", **options)
        out, d_x, *_ = values_and_pulls(function, arrays, 7)
        assert not np.any(out[0]) and not np.any(d_x[0]) and np.any(out[1])


@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_blocks_do_not_matter_on_a_gpu(variant):
    """Blocks that end with a frame, and blocks of which the last is cut."""
    spec = ClipSpec("blocks", 2, 3, 3, 40, variant)
    arrays = rounded(_arrays(spec, 5), "float32")
    found = []
    for block in (None, 16, 64):

        def call(x, weight=None, bias=None, block=block):
            return gpu.temporal_pool(x, jnp.asarray([3, 2]), weight, bias, True, block)

        found.append(values_and_pulls(call, arrays, 7))
    wanted = in_float64(_function(reference.temporal_pool, [3, 2]), exactly(arrays), 7)
    for one in found:
        compare(one[:3], wanted[:3], "float32")


def test_a_gpu_reads_features_twice_where_frames_are_scored():
    """Four clips of Valley-7B: v1 and v2, forward."""
    x = jax.ShapeDtypeStruct((4, 8, 257, 4096), jnp.bfloat16)
    sizes = gpu.sizes_of(x)
    frames, clip, shares = 2 * 4 * 8 * 256 * 4096, 2 * 256 * 4096, 4 * 4 * 8 + 4 * 4
    assert gpu.sums_launch(sizes, False).asked == frames + 4 * clip + 1024 * shares
    scores = gpu.products_launch(sizes, True)
    assert scores.asked == frames + 4 * clip + 4 * 4 * 8 * 1024 + 1024 * 4 * 4
    assert scores.once == frames + clip + 4 * 4 * 8 * 1024 + 4 * 4


def test_frames_behind_the_end_are_not_fetched():
    """Four clips: each frame that is there once, the layer once, an output a clip."""
    sizes = tpu.Sizes(4, 8, 257, 4096, jnp.bfloat16, True)
    frame = 2 * 257 * 4096
    launch = tpu.forward_launch(sizes)
    outputs = 4 * (2 * 256 * 4096 + 512)
    assert launch.moved(np.asarray([8, 3, 1, 8])) == 20 * frame + frame + 4 + outputs


def test_limits():
    """Raised before anything is traced."""
    x, length, layer = jnp.zeros((2, 3, 5, 128)), jnp.asarray([1, 2]), (jnp.zeros((4, 128)), jnp.zeros(1))
    v1, v2 = (partial(temporal_pool, variant=variant, **INTERPRETED) for variant in ("v1", "v2"))
    with pytest.raises(KernelError, match="v2 takes a layer"):
        v2(x, length)
    with pytest.raises(KernelError, match="v1 none"):
        v1(x, length, *layer)
    with pytest.raises(KernelError, match="a class token and patches"):
        v1(x[:, :, :1], length)
    with pytest.raises(KernelError, match="bfloat16 or float32"):
        v1(x.astype(jnp.float16), length)
    with pytest.raises(KernelError, match="the TPU kernel holds"):
        v1(jnp.zeros((1, 1, 577, 4096)), length[:1])
