"""stc_downsample: clips of every connector, for TPU and GPU step by step on this machine."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.kernels.close import compare, drawn, exactly, in_float64, rounded, values_and_pulls
from vidlmm.kernels import KernelError, stc_downsample
from vidlmm.kernels.specs import STC, StcSpec, cut_stc
from vidlmm.kernels.stc_downsample import gpu, launches, reference
from vidlmm.kernels.stc_downsample.windows import Windows

INTERPRETED: dict[str, Any] = {"backend": "tpu", "interpret": True}
ON_GPU: dict[str, Any] = {"backend": "gpu", "interpret": True}
XLA: dict[str, Any] = {"backend": "xla"}


def _arrays(spec: StcSpec, seed: int) -> list[np.ndarray]:
    """With a narrower output than the features, so that none is taken for the other."""
    out = spec.width // 2
    x, weight, bias = drawn(
        seed, (spec.clips, spec.frames, spec.side**2, spec.width), (2, 2, 2, spec.width, out), (out,)
    )
    return [x, weight * (8 * spec.width) ** -0.5, bias]


def _function(of, length, spec, **options):
    return lambda x, weight, bias: of(x, weight, bias, jnp.asarray(length), padding=spec.padding, **options)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", STC, ids=lambda spec: spec.name)
def test_values_and_gradients(spec, dtype):
    """The last clip has lost a frame, of which neither values nor gradients know."""
    spec = cut_stc(spec)
    arrays = rounded(_arrays(spec, spec.side + spec.frames), dtype)
    length = [*[spec.frames] * (spec.clips - 1), spec.frames - 1]
    wanted = in_float64(_function(reference.stc_downsample, length, spec), exactly(arrays), 7)
    arrays[0] = arrays[0].at[-1, -1].set(jnp.nan)
    for options in (INTERPRETED, ON_GPU, *([XLA] if dtype == "float32" else [])):
        found = values_and_pulls(_function(stc_downsample, length, spec, **options), arrays, 7)
        compare(found, wanted, dtype)
        assert not np.any(found[1][-1, -1])


def test_blocks_do_not_matter(monkeypatch):
    """Other steps, and a chip with room for the sums of one clip and half its columns."""
    spec = StcSpec("two", 2, 3, 5, 256, 1)
    x, weight, bias = rounded(_arrays(spec, 13), "float32")
    arrays = [x, jnp.concatenate([weight] * 2, axis=4), jnp.concatenate([bias] * 2)]
    call = partial(_function, stc_downsample, [3, 2], spec, **INTERPRETED)
    whole = values_and_pulls(call(block=256), arrays, 5)
    sizes = launches.sizes_of(x, arrays[1], launches.Setup(1))
    monkeypatch.setattr(launches, "HELD", launches.forward_launch(sizes, differentiated=True).held - 1)
    assert launches.forward_launch(sizes, differentiated=True).grid[:2] == (2, 2)
    compare(values_and_pulls(call(), arrays, 5), whole, "float32")


def test_a_gpus_tiles_do_not_matter():
    """Features of other steps; widths of no whole blocks, frames and tokens that fill no window, clips too short."""
    for frames, side, padding in ((3, 5, 0), (3, 5, 1), (2, 3, 1), (5, 4, 1)):
        spec = StcSpec("odd", 2, frames, side, 72, padding)
        arrays, length = rounded(_arrays(spec, side), "float32"), [frames, 1]
        wanted = in_float64(_function(reference.stc_downsample, length, spec), exactly(arrays), 7)
        for block in (None, 16, 64):
            call = _function(stc_downsample, length, spec, block=block, **ON_GPU)
            compare(values_and_pulls(call, arrays, 7), wanted, "float32")


def test_a_gpu_reads_tokens_that_stand_in_a_window():
    """VideoLLaMA 2: nothing for the padding; the features for each part of the columns, the weights for each part of
    the cells, or of the tokens with the same place in their windows."""
    x = jax.ShapeDtypeStruct((1, 8, 576, 4096), jnp.bfloat16)
    weight = jax.ShapeDtypeStruct((2, 2, 2, 4096, 4096), jnp.bfloat16)
    sizes = gpu.sizes_of(x, weight, launches.Setup(STC[0].padding))
    forward, features, weights = gpu.forward_launch(sizes), gpu.features_launch(sizes), gpu.weights_launch(sizes)
    assert (forward.grid, features.grid, weights.grid) == ((7, 32), (5, 32, 8), (32, 32, 8))
    out = 2 * 5 * 169 * 4096
    assert forward.once == 2 * x.size + 2 * weight.size + out + 4 * 4096 + 4
    assert forward.asked == 32 * 2 * x.size + 7 * (2 * weight.size + 4 * 4096) + out + 32 * 4
    assert features.asked == 32 * 2 * x.size + 5 * 2 * weight.size + 2 * x.size + 32 * 8 * 4
    assert weights.asked == 2 * 32 * 2 * x.size + 2 * weight.size + 32 * 32 * 8 * 4
    odd = jax.ShapeDtypeStruct((1, 16, 729, 4096), jnp.bfloat16)
    assert gpu.forward_launch(gpu.sizes_of(odd, weight, launches.Setup(0))).ins[0].numbers == 16 * 26**2 * 4096


@pytest.mark.parametrize("options", [INTERPRETED, ON_GPU], ids=["tpu", "gpu"])
def test_a_clip_without_frames_is_its_bias(options):
    spec = StcSpec("none", 1, 2, 4, 128, 0)
    x, weight, bias = rounded(_arrays(spec, 3), "float32")
    out, *pulls = values_and_pulls(_function(stc_downsample, [0], spec, **options), [x, weight, bias], 7)
    np.testing.assert_allclose(out[0, 0], np.tile(jax.nn.silu(bias), (4, 1)), rtol=1e-6, atol=1e-7)
    assert not np.any(pulls[0]) and not np.any(pulls[1]) and np.any(pulls[2])


@pytest.mark.parametrize("spec", [STC[0], STC[4]], ids=lambda spec: spec.name)
def test_every_token_stands_in_one_window(spec):
    """Or in none, where it does not fill the last."""
    windows = Windows(spec.frames, spec.side, spec.padding)
    tokens = [token + 2 * n for _, _, count, token in windows.runs() for n in range(count)]
    inside = 2 * windows.line if not spec.padding else spec.side
    grid = np.arange(spec.side**2).reshape(spec.side, -1)[:inside, :inside]
    assert sorted(tokens) == grid.flatten().tolist()


def test_traffic_is_counted_from_the_grid():
    """VideoLLaMA 2: weights and result once, the features for each half of the columns; of a clip that is half as long,
    half of the features."""
    spec = STC[0]
    x = jax.ShapeDtypeStruct((1, 8, 576, 4096), jnp.bfloat16)
    weight = jax.ShapeDtypeStruct((2, 2, 2, 4096, 4096), jnp.bfloat16)
    sizes = launches.sizes_of(x, weight, launches.Setup(spec.padding))
    out, bias = 2 * 5 * 169 * 4096, 4 * 4096
    for length in (8, 4):
        moved = launches.forward_launch(sizes).moved(np.asarray([length]))
        assert moved == 2 * x.size * 2 * length // 8 + 2 * weight.size + out + bias
    both = launches.weights_launch(sizes).moved(np.asarray([8]))
    assert both == 2 * x.size + 2 * weight.size + out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": (1, 2, 15, 128)}, "no square grid"),
        ({"x": (1, 1, 16, 128)}, "fill no window"),
        ({"weight": (2, 2, 2, 64, 128)}, "features of width 128"),
        ({"bias": (127,)}, "the bias"),
        ({"length": (2,)}, "one length a clip"),
        ({"weight": (1, 2, 2, 128, 128)}, r"takes \(2, 2, 2\)"),
        ({"dtype": jnp.float16}, "both bfloat16 or both float32"),
        ({"x": (1, 2, 16, 1032), "weight": (2, 2, 2, 1032, 128)}, "multiples of 128"),
        ({"x": (600, 8, 576, 128)}, "fewer clips"),
        ({"backend": "gpu", "weight": (1, 2, 2, 128, 128)}, r"takes \(2, 2, 2\)"),
        ({"backend": "gpu", "dtype": jnp.float16}, "both bfloat16 or both float32"),
        ({"backend": "gpu", "block": 96}, "a power of two from 16 to 1024"),
    ],
)
def test_limits(untyped, change, message):
    """Raised before anything is traced."""
    shapes = {"x": (1, 2, 16, 128), "weight": (2, 2, 2, 128, 128), "bias": (128,)} | change
    arrays = [jax.ShapeDtypeStruct(shapes[name], change.get("dtype", jnp.float32)) for name in ("x", "weight", "bias")]
    length = jax.ShapeDtypeStruct(shapes.get("length", shapes["x"][:1]), jnp.int32)
    with pytest.raises(KernelError, match=message):
        options = INTERPRETED | {name: change[name] for name in change.keys() & {"backend", "block"}}
        jax.eval_shape(partial(stc_downsample, **options), *arrays, length)
