"""depthwise_norm: pictures of both stages, for TPU step by step on this machine."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.kernels.close import compare, drawn, exactly, in_float64, rounded, values_and_pulls
from vidlmm.kernels import KernelError, depthwise_norm
from vidlmm.kernels.depthwise_norm import reference, tpu
from vidlmm.kernels.specs import STAGES, cut_stage

INTERPRETED: dict[str, Any] = {"backend": "tpu", "interpret": True}
XLA: dict[str, Any] = {"backend": "xla"}


def _arrays(shape: tuple[int, int, int], seed: int) -> list[np.ndarray]:
    width = shape[2]
    x, weight, scale, bias = drawn(seed, shape, (3, 3, width), (width,), (width,))
    return [x, weight / 3, 1 + scale / 4, bias]


def _compare(shape: tuple[int, int, int], line: int, dtype: str) -> None:
    arrays = rounded(_arrays(shape, shape[1]), dtype)
    wanted = in_float64(partial(reference.depthwise_norm, line=line, eps=1e-5), exactly(arrays), 7)
    for options in (INTERPRETED, XLA) if dtype == "float32" else (INTERPRETED,):
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
        jax.eval_shape(partial(depthwise_norm, line=change.get("line", 4), **INTERPRETED), *arrays)
