"""project_pool: the kernels for TPU and GPU against the specification, step by step on this machine."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.kernels.close import compare, drawn, exactly, in_float64, rounded, values_and_pulls
from vidlmm.kernels import KernelError, choose, project_pool
from vidlmm.kernels.choice import PAYS
from vidlmm.kernels.project_pool import gpu, reference, tpu
from vidlmm.kernels.specs import POOLS, PoolSpec, cut_pool

INTERPRETED: dict[str, Any] = {"backend": "tpu", "interpret": True}
ON_GPU: dict[str, Any] = {"backend": "gpu", "interpret": True}
XLA: dict[str, Any] = {"backend": "xla"}


def _arrays(spec: PoolSpec, seed: int) -> list[np.ndarray]:
    x, weight, bias = drawn(
        seed, (spec.frames, spec.side**2, spec.features), (spec.features, spec.width), (spec.width,)
    )
    return [x, weight * spec.features**-0.5, bias]


def _call(spec: PoolSpec, **options) -> partial:
    return partial(project_pool, mode=spec.mode, stride=spec.stride, activation=spec.activation, **options)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", POOLS, ids=lambda spec: spec.name)
def test_values_and_gradients(spec, dtype):
    """Grids and strides of every system."""
    spec = cut_pool(spec)
    arrays = rounded(_arrays(spec, POOLS.index(next(s for s in POOLS if s.name == spec.name))), dtype)

    def specified(x, weight, bias):
        return reference.project_pool(x, weight, bias, spec.mode, spec.stride, spec.activation)

    wanted = in_float64(specified, exactly(arrays), 7)
    for options in (INTERPRETED, ON_GPU, *([XLA] if dtype == "float32" else [])):
        compare(values_and_pulls(_call(spec, **options), arrays, 7), wanted, dtype)


def test_slow_and_fast_frames():
    """Each frame at its own stride: the frames that a call names, in their order, and no gradient for the others."""
    spec = cut_pool(POOLS[1])
    arrays = rounded(_arrays(spec, 11), "float32")
    frames = jnp.asarray([2, 0])

    def specified(x, weight, bias):
        return reference.project_pool(x[np.asarray(frames)], weight, bias, spec.mode, 2 * spec.stride, "gelu")

    call = partial(project_pool, mode=spec.mode, stride=2 * spec.stride, frames=frames)
    wanted = in_float64(specified, exactly(arrays), 3)
    for options in (INTERPRETED, ON_GPU, XLA):
        compare(values_and_pulls(partial(call, **options), arrays, 3), wanted, "float32")
    assert not np.any(wanted[1][1])


def test_blocks_do_not_matter(monkeypatch):
    """Steps of another width, and weights that do not stay on the chip."""
    spec = cut_pool(POOLS[1])
    arrays = rounded(_arrays(spec, 13), "float32")
    whole = values_and_pulls(_call(spec, block=256, **INTERPRETED), arrays, 5)
    monkeypatch.setattr(tpu, "RESIDENT", 1)
    monkeypatch.setattr(tpu, "GATHERED", 1)
    parts = values_and_pulls(_call(spec, block=128, **INTERPRETED), arrays, 5)
    compare(parts, whole, "float32")


def test_traffic_is_counted_from_the_grid():
    """LLaVA-Video-7B: each array once; where the weights do not stay, the features again for every part of them."""
    spec = POOLS[0]
    x = jax.ShapeDtypeStruct((spec.frames, spec.side**2, spec.features), jnp.bfloat16)
    weight = jax.ShapeDtypeStruct((spec.features, spec.width), jnp.bfloat16)
    sizes = tpu.sizes_of(x, weight, spec.frames, tpu.Setup(spec.mode, spec.stride, spec.activation))
    features, layer, cells = 2 * x.size, 2 * weight.size, 2 * spec.frames * 169 * spec.width
    small = 2 * spec.width + 2 * 169 * 729
    assert tpu.forward_launch(sizes).moved(np.arange(spec.frames)) == features + layer + cells + small
    launch = tpu.weights_launch(sizes)
    assert launch.grid[0] == 2
    moved = launch.moved(np.arange(spec.frames))
    assert moved == 2 * features + layer + cells + small + 4 * (weight.size + spec.width)


def test_a_gpu_takes_only_tokens_that_have_a_cell():
    """LLaVA-Video-7B: 26 x 26 of 27 x 27, each with the whole layer for its tile, and the layer again for each tap."""
    spec = POOLS[0]
    x = jax.ShapeDtypeStruct((spec.frames, spec.side**2, spec.features), jnp.bfloat16)
    weight = jax.ShapeDtypeStruct((spec.features, spec.width), jnp.bfloat16)
    setup = gpu.Setup(spec.mode, spec.stride, spec.activation)
    sizes = gpu.sizes_of(x, weight, spec.frames, setup)
    launch = gpu.forward_launch(sizes, gpu.tables_of(sizes, setup))
    assert launch.grid == (28, 85)
    features, layer, cells = 2 * 64 * 26**2 * 1152, 2 * (1152 + 1) * 3584, 2 * 64 * 169 * 3584
    assert launch.once == features + layer + cells + 64 * 4 + 169 * 4 * 8
    assert launch.asked == 28 * features + 85 * 4 * layer + cells + 28 * (64 * 4 + 64 * 169 * 4 * 8)


def test_backends(untyped):
    """A named one is what runs; "auto" looks at the device, and says why."""
    spec = cut_pool(POOLS[0])
    arrays = rounded(_arrays(spec, 17), "float32")
    text = jax.jit(_call(spec, backend="xla")).lower(*arrays).as_text(debug_info=True)
    assert "project_pool_xla" in text
    assert "project_pool_xla" in jax.jit(_call(spec)).lower(*arrays).as_text(debug_info=True)
    for backend in ("tpu", "gpu"):  # neither can run here, and nothing stands in for it
        with pytest.raises(KernelError, match=f"'{backend}' does not run on cpu"):
            jax.jit(_call(spec, backend=backend)).trace(*arrays)
    with pytest.raises(KernelError, match="has the backends xla, tpu, gpu; got 'cuda'"):
        choose("project_pool", "cuda")  # type: ignore[arg-type]

    assert "cpu" in choose("project_pool").why


@pytest.mark.parametrize("kernel", PAYS)
def test_auto_takes_what_pays(kernel, monkeypatch):
    """On a TPU the kernel where the table names its generation, XLA's program on the others."""

    class Device:
        platform = "tpu"

        def __init__(self, kind: str):
            self.device_kind = kind

    monkeypatch.setitem(PAYS, kernel, frozenset({"v6e"}))
    assert choose(kernel, device=Device("TPU v6 lite")).backend == "tpu"
    assert choose(kernel, device=Device("TPU v5 lite")).backend == "xla"
    assert choose(kernel, device=Device("TPU v4")).backend == "xla"
    assert choose(kernel, "tpu", Device("TPU v4")).backend == "tpu"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": (2, 730, 24)}, "no square grid"),
        ({"weight": (25, 128)}, "features of width 24"),
        ({"bias": (127,)}, "its bias"),
        ({"x": (2, 33 * 33, 24)}, "holds 1024"),
        ({"weight": (24, 1000), "bias": (1000,)}, "multiples of 128"),
        ({"dtype": jnp.float16}, "both bfloat16 or both float32"),
        ({"stride": 28}, "leaves nothing"),
        ({"block": 96}, "equal parts of 128"),
        ({"activation": "relu"}, "one of gelu, gelu_tanh, none"),
        ({"mode": "median"}, "one of average, max, bilinear"),
        ({"backend": "gpu", "block": 96}, "a power of two from 16 to 1024"),
        ({"backend": "gpu", "dtype": jnp.float16}, "both bfloat16 or both float32"),
    ],
)
def test_limits(untyped, change, message):
    """Raised before anything is traced."""
    shapes = {"x": (2, 729, 24), "weight": (24, 128), "bias": (128,)}
    shapes |= {name: change[name] for name in change.keys() & shapes.keys()}
    arrays = [jnp.zeros(shape, change.get("dtype", jnp.float32)) for shape in shapes.values()]
    options = {"mode": "average", "stride": 2, **INTERPRETED}
    options |= {name: value for name, value in change.items() if name not in (*shapes, "dtype")}
    with pytest.raises(ValueError, match=message):
        project_pool(*arrays, **options)


def test_a_width_of_no_whole_lanes():
    """Half of 0.5B's width, as a device of two has it, stays in one piece."""
    spec = PoolSpec("half", 2, 5, 8, 72, "bilinear", 2)
    arrays = rounded(_arrays(spec, 19), "float32")

    def specified(x, weight, bias):
        return reference.project_pool(x, weight, bias, spec.mode, spec.stride, spec.activation)

    wanted = in_float64(specified, exactly(arrays), 7)
    for options in (INTERPRETED, ON_GPU, {**ON_GPU, "block": 16}):
        compare(values_and_pulls(_call(spec, **options), arrays, 7), wanted, "float32")
