"""depthwise_norm: pictures of both stages, for TPU and GPU step by step on this machine."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.kernels.close import compare, drawn, exactly, in_float64, rounded, values_and_pulls
from vidlmm.kernels import KernelError, depthwise_norm
from vidlmm.kernels.depthwise_norm import gpu, reference, tpu
from vidlmm.kernels.specs import STAGES, cut_stage

INTERPRETED: dict[str, Any] = {"backend": "tpu", "interpret": True}
ON_GPU: dict[str, Any] = {"backend": "gpu", "interpret": True}
XLA: dict[str, Any] = {"backend": "xla"}


def _arrays(shape: tuple[int, int, int], seed: int) -> list[np.ndarray]:
    width = shape[2]
    x, weight, scale, bias = drawn(seed, shape, (3, 3, width), (width,), (width,))
    return [x, weight / 3, 1 + scale / 4, bias]


def _compare(shape: tuple[int, int, int], line: int, dtype: str) -> None:
    arrays = rounded(_arrays(shape, shape[1]), dtype)
    wanted = in_float64(partial(reference.depthwise_norm, line=line, eps=1e-5), exactly(arrays), 7)
    for options in (INTERPRETED, ON_GPU, *([XLA] if dtype == "float32" else [])):
        found = values_and_pulls(partial(depthwise_norm, line=line, **options), arrays, 7)
        compare(found, wanted, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", STAGES, ids=lambda spec: spec.name)
def test_values_and_gradients(spec, dtype):
    spec = cut_stage(spec)
    _compare((spec.frames, spec.side**2, spec.width), spec.side, dtype)


@pytest.mark.parametrize(("pixels", "line"), [(21, 7), (21, 3), (3, 1), (4, 4), (1, 1)])
def test_pictures_that_are_no_squares(pixels, line):
    """Narrow, flat, a line, a pixel: what lies outside is zero; channels of no whole lanes."""
    _compare((2, pixels, 72), line, "float32")


def test_a_gpus_tiles_do_not_matter(monkeypatch):
    """Some pixels fewer in a program, and parts of the parameters' gradients of other sizes."""
    arrays = rounded(_arrays((3, 35, 72), 5), "float32")
    call = partial(depthwise_norm, line=5, **ON_GPU)
    whole = values_and_pulls(call, arrays, 7)
    for name, size in {"FORWARD": 256, "BACKWARD": 128, "NORM": 8, "TAPS": 32, "ROWS": 4, "COLUMNS": 16}.items():
        monkeypatch.setattr(gpu, name, size)
    compare(values_and_pulls(call, arrays, 7), whole, "float32")


def test_a_gpu_reads_a_pixel_for_each_of_its_neighbours():
    """Nine times from the caches, once from main memory where it stays in them; the parameters for each program."""
    x = jax.ShapeDtypeStruct((8, 576, 4096), jnp.bfloat16)
    sizes = gpu.sizes_of(x, 24, 1e-5)
    forward, norm, picture = gpu.forward_launch(sizes), gpu.norm_launch(sizes), gpu.picture_launch(sizes)
    array, parameters = 2 * x.size, 4 * 11 * 4096
    assert (forward.grid, norm.grid, picture.grid) == ((2304,), (288,), (32, 36))
    assert forward.once == 2 * array + parameters
    assert forward.asked == 10 * array + 2304 * parameters
    assert norm.asked == 11 * array + 288 * (16 * parameters + 4 * 2 * 4096)
    assert picture.asked == 11 * array + 36 * (parameters + 4 * 9 * 4096)


def test_each_array_moves_once():
    """A second buffer is given up where two do not fit; the traffic stays."""
    for width, buffers in ((4096, 2), (8192, 1)):
        x = jax.ShapeDtypeStruct((8, 576, width), jnp.bfloat16)
        sizes = tpu.sizes_of(x, tpu.Setup(24, 1e-5))
        forward, backward = tpu.forward_launch(sizes), tpu.backward_launch(sizes)
        small = 4 * (11 * width + 2 * 576)
        assert forward.moved() == 2 * 2 * x.size + small
        assert backward.moved() == 3 * 2 * x.size + small + 4 * 8 * 11 * width
        assert backward.outs[0].held == buffers * 2 * 576 * width


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": (3, 3, 64)}, r"the convolution is \(3, 3, 128\)"),
        ({"bias": (64,)}, r"scale and bias \(128,\)"),
        ({"line": 5}, "no rows of 5"),
        ({"dtype": jnp.float16}, "bfloat16 or float32"),
        ({"x": (1, 16, 520), "weight": (3, 3, 520), "scale": (520,), "bias": (520,)}, "multiples of 128"),
        ({"x": (1, 4096, 4096), "weight": (3, 3, 4096), "scale": (4096,), "bias": (4096,)}, "do not fit"),
        ({"backend": "gpu", "dtype": jnp.float16}, "bfloat16 or float32"),
        (
            {"backend": "gpu", "x": (1, 4, 8200), "weight": (3, 3, 8200), "scale": (8200,), "bias": (8200,)},
            "at most 8192",
        ),
    ],
)
def test_limits(untyped, change, message):
    """Raised before anything is traced."""
    shapes = {"x": (1, 16, 128), "weight": (3, 3, 128), "scale": (128,), "bias": (128,)}
    arrays = [
        jax.ShapeDtypeStruct(change.get(name, shape), change.get("dtype", jnp.float32))
        for name, shape in shapes.items()
    ]
    with pytest.raises(KernelError, match=message):
        options = INTERPRETED | {name: change[name] for name in change.keys() & {"backend"}}
        jax.eval_shape(partial(depthwise_norm, line=change.get("line", 4), **options), *arrays)
