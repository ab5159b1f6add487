"""temporal_pool and temporal_attend: clips of several lengths, for TPU and GPU step by step on this machine."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.kernels.close import compare, drawn, exactly, in_float64, rounded, values_and_pulls
from vidlmm.kernels import KernelError, temporal_attend, temporal_pool
from vidlmm.kernels.specs import TEMPORAL, AttendSpec, ClipSpec, cut_clip
from vidlmm.kernels.temporal_pool import attend_gpu, attend_tpu, gpu, reference, tpu

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
@pytest.mark.parametrize("spec", TEMPORAL, ids=lambda spec: spec.name)
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


def _attended(spec: AttendSpec, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames and questions whose scores are about one, and positions."""
    rows = 1 + spec.side**2
    x, ask, position = drawn(
        seed,
        (spec.clips, spec.frames, rows, spec.width),
        (spec.clips, spec.heads, rows, spec.width),
        (spec.frames, spec.width),
    )
    return [x, ask * spec.width**-0.5], position


def _attend(of, length, position, **options):
    """Both results in one array, the mean behind the heads."""

    def call(x, ask):
        weighted, mean = of(x, jnp.asarray(length), jnp.asarray(position, x.dtype), ask, **options)
        return jnp.concatenate([weighted, mean[:, None]], axis=1)

    return call


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_rows_ask_their_frames(dtype):
    """Values and gradients: a whole clip, and a shorter one whose rest is never looked at."""
    spec = AttendSpec("cut", 2, 4, 6, 128)
    arrays, position = _attended(spec, spec.frames)
    arrays, position = rounded(arrays, dtype), exactly(rounded([position], dtype))[0]
    length = [spec.frames, spec.frames - 1]
    wanted = in_float64(_attend(reference.temporal_attend, length, position), exactly(arrays), 7)
    arrays[0] = arrays[0].at[1, -1].set(jnp.nan)
    for options in (INTERPRETED, ON_GPU, XLA):
        found = values_and_pulls(_attend(temporal_attend, length, position, **options), arrays, 7)
        compare(found, wanted, dtype)
        assert not np.any(found[1][1, -1])


def test_rows_of_a_clip_without_frames_find_nothing():
    """Zeros, and no gradient, whatever stands there."""
    spec = AttendSpec("none", 2, 4, 3, 128, heads=2)
    arrays, position = _attended(spec, 3)
    arrays = rounded(arrays, "float32")
    arrays[0] = arrays[0].at[0].set(jnp.inf)
    for options in (INTERPRETED, ON_GPU, XLA):
        out, d_x, d_ask = values_and_pulls(_attend(temporal_attend, [0, 2], position, **options), arrays, 7)
        for one in (out, d_x, d_ask):
            assert not np.any(one[0]) and np.any(one[1])


@pytest.mark.parametrize("of", [attend_tpu.temporal_attend, attend_gpu.temporal_attend], ids=["tpu", "gpu"])
def test_blocks_do_not_matter_to_what_rows_find(of):
    """Rows and columns that blocks do not divide, more frames than a power of two, one head."""
    spec = AttendSpec("blocks", 2, 5, 6, 40, heads=1)
    arrays, position = _attended(spec, 5)
    arrays = rounded(arrays, "float32")
    wanted = in_float64(_attend(reference.temporal_attend, [5, 2], position), exactly(arrays), 7)
    for block in (None, 16, 64):
        call = _attend(of, [5, 2], position, interpret=True, block=block)
        compare(values_and_pulls(call, arrays, 7), wanted, "float32")


def test_scores_far_apart_do_not_overflow():
    """The frame with the largest score is what a row finds."""
    spec = AttendSpec("far", 1, 3, 3, 128, heads=2)
    (x, ask), position = _attended(spec, 11)
    arrays = rounded([x, 1e4 * ask], "float32")
    wanted = in_float64(_attend(reference.temporal_attend, [3], position), exactly(arrays), 7)[0]
    for options in (INTERPRETED, ON_GPU, XLA):
        found = values_and_pulls(_attend(temporal_attend, [3], position, **options), arrays, 7)[0]
        compare([found], [wanted], "float32")


def test_frames_come_once_each_way_where_rows_ask():
    """Four clips of Valley-7B: frames that are there, questions and their answers; backward pulls and gradients."""
    x = jax.ShapeDtypeStruct((4, 8, 257, 4096), jnp.bfloat16)
    ask = jax.ShapeDtypeStruct((4, 8, 257, 4096), jnp.bfloat16)
    sizes, frame, table = attend_tpu.sizes_of(x, ask), 2 * 257 * 4096, 4 * 8 * 4096
    length = np.asarray([8, 3, 1, 8])
    asked = 4 * 8 * frame
    assert attend_tpu.forward_launch(sizes).moved(length) == 20 * frame + table + 2 * asked + 4 * frame
    assert attend_tpu.backward_launch(sizes).moved(length) == 20 * frame + table + 3 * asked + 4 * frame + 32 * frame
    on_gpu = attend_gpu.sizes_of(x, ask)
    assert attend_gpu.forward_launch(on_gpu).once == 32 * frame + 16 + table // 2 + 2 * asked + 4 * frame


def test_limits_of_what_rows_ask(untyped):
    """Raised before anything is traced."""
    x, length, position, ask = (
        jnp.zeros((2, 3, 5, 128)),
        jnp.asarray([1, 2]),
        jnp.zeros((3, 128)),
        jnp.zeros((2, 8, 5, 128)),
    )
    on_tpu, on_gpu = (partial(temporal_attend, **options) for options in (INTERPRETED, ON_GPU))
    with pytest.raises(KernelError, match="one position a frame"):
        on_tpu(x, length, position[:2], ask)
    with pytest.raises(KernelError, match="questions are clips x heads x 5 rows x 128"):
        on_tpu(x, length, position, ask[:, :, :4])
    with pytest.raises(KernelError, match="in the type of the frames"):
        on_tpu(x, length, position, ask.astype(jnp.bfloat16))
    with pytest.raises(KernelError, match="bfloat16 or float32"):
        on_tpu(x.astype(jnp.float16), length, position, ask.astype(jnp.float16))
    with pytest.raises(KernelError, match="a multiple of 16"):
        attend_tpu.sizes_of(x, ask, 24)
    long = jax.ShapeDtypeStruct((1, 2048, 5, 4096), jnp.bfloat16)
    asked = jax.ShapeDtypeStruct((1, 8, 5, 4096), jnp.bfloat16)
    with pytest.raises(KernelError, match="2048 frames of width 4096 and 8 heads; the TPU kernel holds"):
        attend_tpu.sizes_of(long, asked)
    with pytest.raises(KernelError, match="the GPU kernel takes 128 of each"):
        on_gpu(jnp.zeros((1, 129, 1, 16)), length[:1], jnp.zeros((129, 16)), jnp.zeros((1, 1, 1, 16)))
