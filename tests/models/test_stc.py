"""VideoLLaMA 2's connectors: parity with the original numbers, clips of unequal length, gradients."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.goldens.seeded import seeded_tensor
from tests.models.released import case_inputs, load_case
from vidlmm.checkpoint.keymap import Rule, plan
from vidlmm.checkpoint.videollama2 import stc_rules
from vidlmm.kernels.depthwise_norm.xla import depthwise
from vidlmm.models.remat import Remat
from vidlmm.models.stc import STC
from vidlmm.spec.stc import STC_CONNECTORS, STCSpec, stc_tokens

CLASSES = {
    "STCConnector": STCSpec(),
    "STCConnectorV35": STCSpec(padding=0),
    "STPConnector": STCSpec(padding=0, sampler="pool"),
    "SpatialConv": STC_CONNECTORS["spatial_conv"],
    "SpatialPool": STC_CONNECTORS["spatial_pool"],
}
NAMES = [
    "stc_connector",
    "stc_connector_v35",
    "stp_connector",
    "regstage_2dpool",
    "regstage_2dconv",
    "regstage_2dconv_nopad",
    "spatial_conv",
    "spatial_pool",
    "noreg_3dpool_222",
    "noreg_3dconv_222",
    "noreg_3dconv_222_nopad",
    "noreg_3dpool_t11",
]


def released(
    spec: STCSpec, features: int, width: int, theirs: dict[str, tuple[int, ...]], get: Callable[[str], np.ndarray]
) -> STC:
    """The model with a release's tensors, every one of which has its place."""
    graph, params = nnx.split(nnx.eval_shape(lambda: STC(spec, features, width, rngs=nnx.Rngs(0))))
    rules = stc_rules(spec, features != width, ours="")
    flat = {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(params)}
    ours = {name: jax.ShapeDtypeStruct(leaf.shape, jnp.float32) for name, leaf in flat.items()}
    for name, parts in plan(rules, ours, theirs, "it").parts.items():
        layers = [part.rule.load([get(key) for key in part.keys]) for part in parts]
        value = np.stack(layers) if parts[0].place else layers[0]
        flat[name] = flat[name].replace(jnp.asarray(value))
    return nnx.merge(graph, nnx.from_flat_state({tuple(path.split(".")): leaf for path, leaf in flat.items()}))


def tiny(spec: STCSpec, features: int = 6, width: int = 8, dtype=jnp.float32, remat: Remat = "dots") -> STC:
    return nnx.jit(lambda: STC(spec, features, width, rngs=nnx.Rngs(3), dtype=dtype, remat=remat))()


def clips(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@nnx.jit
def run(model: STC, features: jax.Array, length: jax.Array) -> jax.Array:
    return model(features, length)


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_table_1_gives_the_original_numbers(name: str, goldens: Path):
    case, stored = load_case(goldens / "videollama2" / "connectors_table1")
    assert set(case["settings"]["connectors"]) == set(NAMES)
    inputs, about = case_inputs(case), case["settings"]["connectors"][name]
    spec = CLASSES[about["class"]]
    spec = replace(
        spec, depth=about.get("depth", spec.depth), downsample=tuple(about.get("downsample", spec.downsample))
    )
    assert STC_CONNECTORS.get(name, spec) == spec
    features, width = about["mm_hidden_size"], case["config"]["hidden_size"]
    shapes = {key.split(".", 1)[1]: tuple(s) for key, s in case["tensors"].items() if key.startswith(f"{name}.")}

    def get(key: str) -> np.ndarray:
        return seeded_tensor(case["seed"], f"{name}.{key}", shapes[key])

    model = released(spec, features, width, shapes, get)
    for given in about["inputs"]:
        x = jnp.asarray(inputs[given])
        found = np.asarray(run(model, x, jnp.full(x.shape[0], x.shape[1])))
        output = f"{name}/{given}"
        assert list(found.shape) == case["outputs"][output]["shape"]
        ours = eval(f"full{case['outputs'][output]['slice']}", {"full": found})
        worst = np.max(np.abs(ours - stored[output]))
        print(f"{output}: largest difference {worst:.2e}")
        assert worst < case["tolerance"] / 4
        assert abs(found.mean(dtype=np.float64) - stored[f"{output}_mean"]) < case["tolerance"] / 4
        assert abs(np.abs(found).mean(dtype=np.float64) - stored[f"{output}_absmean"]) < case["tolerance"] / 4


@pytest.mark.parametrize("spec", [STCSpec(downsample=(1, 2, 3)), STCSpec(0, (2, 2, 2), 0, "pool", mlp_depth=3)])
def test_every_rule_and_its_inverse_are_exact(spec: STCSpec):
    features = 6 if spec.depth else 8
    model = tiny(spec, features)
    rules = {rule.ours: rule for rule in stc_rules(spec, features != 8, ours="") if isinstance(rule, Rule)}
    for path, leaf in nnx.to_flat_state(nnx.state(model)):
        rule = rules.pop(".".join(map(str, path)))
        layers = leaf[...] if rule.stacked else leaf[...][None]
        for layer in np.asarray(layers):
            np.testing.assert_array_equal(rule.load(rule.save(layer)), layer)
    assert not rules


def test_token_counts_are_the_original_ones(goldens: Path):
    case, _ = load_case(goldens / "videollama2" / "connectors_table1")
    known = STC_CONNECTORS | {"regstage_2dconv_nopad": STCSpec(padding=0, downsample=(1, 2, 2))}
    for text, (t, h, w, total) in case["expected"]["token_counts_t_h_w_total"].items():
        name, side, frames = text.replace("side=", "").replace("frames=", "").split()
        assert stc_tokens(int(frames), int(side), known[name]) == (t, h, w)
        assert t * h * w == total


@pytest.mark.parametrize(
    "spec",
    [
        STCSpec(depth=1),
        STCSpec(depth=1, padding=0),
        STCSpec(depth=1, padding=0, sampler="pool"),
        STCSpec(depth=1, downsample=(1, 2, 2)),
        STCSpec(depth=1, downsample=(3, 2, 1), padding=2),
    ],
)
def test_a_short_clip_gives_the_tokens_it_gives_alone(spec: STCSpec):
    model, steps, side = tiny(spec), 7, 5
    x = clips(3, steps, side * side, 6)
    lengths = [7, 4, 3]
    # What lies behind a clip's last frame is never looked at, whatever it is.
    behind = jnp.arange(steps)[None, :, None, None] >= jnp.asarray(lengths)[:, None, None, None]
    together = run(model, jnp.where(behind, 1e4, x), jnp.asarray(lengths))
    assert together.shape[1] == np.prod(stc_tokens(steps, side, spec))
    for number, length in enumerate(lengths):
        alone = run(model, x[number : number + 1, :length], jnp.asarray([length]))[0]
        assert len(alone) == np.prod(stc_tokens(length, side, spec))
        np.testing.assert_allclose(together[number, : len(alone)], alone, atol=1e-5)


def test_a_frame_is_computed_once_for_all_its_places():
    model = tiny(STCSpec(depth=2))
    frames, steps = clips(3, 16, 6), jnp.asarray([[0, 0, 0, 0], [1, 2, 1, 0]])
    length = jnp.asarray([4, 3])
    once = nnx.jit(lambda m: m.clips(m.frames(frames)[steps], length))(model)
    np.testing.assert_allclose(once, run(model, frames[steps], length), atol=1e-5)


@pytest.mark.parametrize("remat", ["dots", "layer"])
def test_gradients_reach_all_parameters_and_no_masked_frame(remat: Remat):
    model = tiny(STCSpec(depth=2), remat=remat)
    graph, params = nnx.split(model)
    x, length = clips(2, 4, 9, 6), jnp.asarray([4, 2])

    @jax.jit
    @partial(jax.grad, argnums=(0, 1))
    def gradients(params, x):
        out = nnx.merge(graph, params)(x, length)
        return jnp.sum(out[0] ** 2) + jnp.sum(out[1, : 2 * 2 * 2] ** 2)

    of_params, of_x = gradients(params, x)
    for path, leaf in nnx.to_flat_state(of_params):
        assert np.isfinite(leaf[...]).all() and np.abs(leaf[...]).max() > 0, path
    assert np.abs(of_x[0]).max() > 0 and np.abs(of_x[1, :2]).max() > 0
    np.testing.assert_array_equal(of_x[1, 2:], 0)


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (1, 1, 1, 2), (1, 2, 7, 4)])
def test_depthwise_is_the_grouped_convolution(shape: tuple[int, ...]):
    x, kernel = clips(*shape), clips(3, 3, shape[-1], seed=1)
    numbers = ("NHWC", "HWIO", "NHWC")

    def reference(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel[:, :, None], (1, 1), ((1, 1), (1, 1)), dimension_numbers=numbers, feature_group_count=shape[-1]
        )

    np.testing.assert_allclose(depthwise(x, kernel), reference(x, kernel), atol=1e-5)
    ours, theirs = (jax.grad(lambda *a, f=f: jnp.sum(f(*a) ** 2), argnums=(0, 1)) for f in (depthwise, reference))
    for found, expected in zip(ours(x, kernel), theirs(x, kernel), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("downsample, padding", [((2, 2, 2), 1), ((1, 2, 2), 1), ((3, 1, 2), 0), ((2, 3, 3), 2)])
def test_the_sampler_is_the_strided_convolution(downsample: tuple[int, int, int], padding: int):
    spec = STCSpec(depth=0, downsample=downsample, padding=padding, mlp_depth=1)
    model: Any = tiny(spec, 8, 8)
    # A readout that changes nothing leaves the sampler and its SiLU.
    model.readout[...], model.readout_bias[...] = jnp.eye(8)[None], jnp.zeros((1, 8))
    model.sampler_bias[...] = clips(8, seed=5)
    x = clips(2, 5, 49, 8)
    expected = jax.lax.conv_general_dilated(
        x.reshape(2, 5, 7, 7, 8),
        model.sampler[...],
        downsample,
        [(padding, padding)] * 3,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )
    assert expected.shape[1:4] == stc_tokens(5, 7, spec)
    expected = jax.nn.silu(expected + model.sampler_bias[...])
    np.testing.assert_allclose(run(model, x, jnp.asarray([5, 5])), expected.reshape(2, -1, 8), atol=1e-5)


def test_bfloat16_stays_near_float32():
    x, length = clips(2, 4, 16, 6), jnp.asarray([4, 3])
    exact = run(tiny(STCSpec()), x, length)
    coarse = run(tiny(STCSpec(), dtype=jnp.bfloat16), x, length)
    assert coarse.dtype == jnp.bfloat16
    # Each norm stretches what rounding did: on the average, a few roundings of 8 bits.
    assert np.abs(coarse.astype(jnp.float32) - exact)[0].mean() < 0.05 * np.abs(exact[0]).mean()


def test_equal_widths_need_no_shortcut_and_the_squeeze_follows_the_tower():
    assert not hasattr(tiny(STCSpec(depth=1), 8, 8).first, "shortcut")
    model: Any = tiny(STCSpec(depth=2), 42, 8)
    # Python rounds 10.5 to 10, as the original does.
    assert model.first.squeeze.shape == (8, 10) and model.before.squeeze.shape == (1, 8, 2)


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match="as wide as the decoder, got 6 and 8"):
        STC(STCSpec(depth=0), 6, 8, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="10 patches are no square"):
        run(tiny(STCSpec(depth=1)), clips(1, 2, 10, 6), jnp.asarray([2]))
    with pytest.raises(ValueError, match=r"1 frame\(s\) of 4x4 patches with padding 0 do not fill"):
        stc_tokens(1, 4, STCSpec(padding=0))
    with pytest.raises(ValueError, match="no padding, got 1"):
        STCSpec(sampler="pool")
    with pytest.raises(ValueError, match="depth and padding begin at 0"):
        STCSpec(downsample=(0, 2, 2))
