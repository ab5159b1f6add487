"""Valley's temporal modules against the original's numbers, and clips that are shorter than their buffer."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.checkpoint.released import case_inputs
from tests.media.golden_case import Case
from tests.models.clip_case import Get, clip_spec, clip_tower, ruled, seeded_get
from vidlmm.checkpoint.valley import temporal_rules
from vidlmm.kernels.temporal_pool.xla import shares
from vidlmm.models import valley
from vidlmm.models.norms import layer_norm
from vidlmm.models.reduced import attended_over_time
from vidlmm.models.valley import FrameMean, FrameScores, FrameTransformer, sinusoids

VERSIONS = ("valley_v1", "valley_v2", "valley_v3")


@nnx.jit
def run(module: Any, x: jax.Array, length: jax.Array) -> jax.Array:
    return module(x, length)


def module_of(version: str, get: Get, width: int = 16, patches: int = 6, dtype: Any = jnp.float32) -> Any:
    """The module of a version with Valley's tensors."""
    make: dict[str, Callable[[], nnx.Module]] = {
        "valley_v1": FrameMean,
        "valley_v2": lambda: FrameScores(width, patches, rngs=nnx.Rngs(0), dtype=dtype),
        "valley_v3": lambda: FrameTransformer(width, rngs=nnx.Rngs(0), dtype=dtype),
    }
    return ruled(nnx.eval_shape(make[version]), temporal_rules(version, width), get, "connector.temporal.")


def some_tensor(key: str, width: int = 16, patches: int = 6) -> np.ndarray:
    """Random numbers in the shape that a tensor of Valley's has."""
    shapes = {
        "pooling_layer.weight": (1, patches * width),
        "pooling_layer.bias": (1,),
        "self_attn.in_proj_weight": (3 * width, width),
        "self_attn.in_proj_bias": (3 * width,),
        "out_proj.weight": (width, width),
        "linear1.weight": (2048, width),
        "linear1.bias": (2048,),
        "linear2.weight": (width, 2048),
        "position_matrix": (2048, width),
    }
    shape = next((shape for end, shape in shapes.items() if key.endswith(end)), (width,))
    return (np.random.default_rng(len(key)).normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)


@cache
def small(version: str, dtype: Any = jnp.float32) -> Any:
    """A module with random values everywhere."""
    return module_of(version, some_tensor, dtype=dtype)


def clips(*frames: int, width: int = 16, patches: int = 6) -> jax.Array:
    """Random features [C, T, 1 + P, H]."""
    draw = np.random.default_rng(sum(frames))
    return jnp.asarray(draw.normal(size=(*frames, 1 + patches, width)), jnp.float32)


def lengths(*values: int) -> jax.Array:
    return jnp.asarray(values, jnp.int32)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_module_gives_the_originals_pooled_patches(goldens, version):
    golden = Case(goldens / "valley" / version)
    case: dict[str, Any] = golden.text
    get = seeded_get(case)
    spec = clip_spec(case["vision_config"], case["config"]["mm_vision_select_layer"], select="all")
    tower = clip_tower(get, "model.vision_tower.vision_model.", spec)
    frames = jnp.asarray(case_inputs(case)["pixel_values_video"].transpose(0, 2, 3, 1))
    features = np.asarray(nnx.jit(lambda tower, frames: tower(frames))(tower, frames))
    golden.assert_close("vision_features", features)
    projected = features @ get("model.mm_projector.weight").T + get("model.mm_projector.bias")
    golden.assert_close("projected", projected)
    golden.assert_close("frame_tokens", projected[:, 0])

    module = module_of(version, get, case["config"]["hidden_size"], spec.grid**2)
    clip = jnp.asarray(projected)[None]
    golden.assert_close("pooled_patches", np.asarray(run(module, clip, lengths(8)))[0])
    if version == "valley_v2":
        found = shares(clip[:, :, 1:], jnp.ones((1, 8), bool), module.weight[...], module.bias[...])
        golden.assert_close("frame_scores", np.asarray(found)[0])
    if version == "valley_v3":
        golden.assert_close("encoder_last_step", np.asarray(module.encode(clip, lengths(8))[0])[0, 1:])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_shorter_clip_gives_what_it_gives_alone(version):
    module, x = small(version), clips(3, 5)
    together = run(module, x.at[0, 1:].set(1e9).at[1, 2:].set(jnp.nan), lengths(1, 2, 5))
    for clip, length in enumerate((1, 2)):
        alone = run(module, x[clip : clip + 1, :length], lengths(length))
        np.testing.assert_allclose(together[clip], alone[0], atol=1e-5)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_class_token_is_not_pooled(version):
    module, x = small(version), clips(1, 3)
    np.testing.assert_array_equal(run(module, x, lengths(3)), run(module, x.at[:, :, 0].set(9.0), lengths(3)))


@pytest.mark.parametrize("version", VERSIONS)
def test_places_without_a_clip_give_numbers_and_finite_gradients(version):
    graph, params = nnx.split(small(version))
    x = clips(2, 3).at[1].set(jnp.inf)

    def total(params, x):
        return jnp.sum(jnp.sin(nnx.merge(graph, params)(x, lengths(3, 0))[0]))

    grads = jax.jit(jax.grad(total, argnums=(0, 1)))(params, x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert np.isfinite(run(small(version), x, lengths(3, 0))).all()


def test_v2_weighs_whole_frames_by_all_their_patches():
    module, x = small("valley_v2"), clips(1, 4)
    seen = np.asarray(x, np.float64)[0, :, 1:]
    scores = seen.reshape(4, -1) @ np.asarray(module.weight[...], np.float64).ravel() + float(module.bias[0])
    weights = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(run(module, x, lengths(4))[0], np.tensordot(weights, seen, 1), atol=1e-5)


def test_v3_depends_on_the_order_and_the_others_do_not():
    x = clips(1, 4)
    for version, differs in zip(VERSIONS, (False, False, True), strict=True):
        forward, backward = (run(small(version), seen, lengths(4)) for seen in (x, x[:, ::-1]))
        assert bool(np.abs(forward - backward).max() > 1e-2) is differs, version


def test_v3s_position_table_is_not_trained_and_its_weights_are():
    graph, params = nnx.split(small("valley_v3"))
    loss = jax.grad(lambda p: jnp.sum(jnp.sin(nnx.merge(graph, p)(clips(2, 3), lengths(3, 2)))))
    for path, grad in nnx.to_flat_state(jax.jit(loss)(params)):
        assert bool(np.any(grad.get_value())) is (path[-1] != "position"), path


def test_v3_with_its_kernel_gives_the_numbers_of_plain_jax(monkeypatch):
    """And its gradients."""
    graph, params = nnx.split(module_of("valley_v3", partial(some_tensor, width=128), 128))
    x = clips(2, 3, width=128)

    def both() -> Any:
        def total(params: Any, x: jax.Array) -> Any:
            found = nnx.merge(graph, params)(x, lengths(3, 2))
            return jnp.sum(jnp.sin(found)), found

        return jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(params, x)

    wanted = both()
    kernel = partial(attended_over_time, backend="tpu", interpret=True)
    monkeypatch.setattr(valley, "attended_over_time", kernel)
    for one, right in zip(jax.tree.leaves(both()), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, right, rtol=1e-4, atol=1e-5)


def test_v3_is_the_transformer_that_makes_all_keys_and_values():
    """With the bias of the keys, which cancels; values, and gradients of every weight of the attention."""
    module, x, depth = small("valley_v3"), clips(1, 4), 2
    graph, params = nnx.split(module)

    def written_out(p: Any) -> jax.Array:
        z = x[0] + p["position"][:4, None]
        q, k, v = jnp.split(jnp.einsum("tnh,hed->tned", z, p["qkv"]) + p["qkv_bias"], 3, axis=3)
        share = jax.nn.softmax(jnp.einsum("ned,tned->net", q[-1], k) * depth**-0.5)
        found = jnp.einsum("nef,efh->nh", jnp.einsum("net,tned->ned", share, v), p["out"]) + p["out_bias"]
        a = layer_norm(z[-1] + found, p["norm1_scale"], p["norm1_bias"], 1e-5)
        h = jax.nn.relu(a @ p["up"] + p["up_bias"]) @ p["down"] + p["down_bias"]
        return (layer_norm(a + h, p["norm2_scale"], p["norm2_bias"], 1e-5) + jnp.mean(x[0], axis=0))[1:]

    plain = {path[-1]: leaf.get_value() for path, leaf in nnx.to_flat_state(params)}
    wanted = jax.jit(jax.value_and_grad(lambda p: jnp.sum(jnp.sin(written_out(p)))))(plain)
    total = jax.value_and_grad(lambda p: jnp.sum(jnp.sin(nnx.merge(graph, p)(x, lengths(4)))))
    value, grads = jax.jit(total)(params)
    np.testing.assert_allclose(value, wanted[0], rtol=1e-5)
    for path, grad in nnx.to_flat_state(grads):
        if path[-1] != "position":
            np.testing.assert_allclose(grad.get_value(), wanted[1][path[-1]], rtol=1e-4, atol=1e-5, err_msg=path[-1])


def test_a_fresh_v3_starts_from_sinusoids():
    table = np.asarray(sinusoids(40, 24))
    k, i = np.arange(40)[:, None], np.arange(12)[None]
    np.testing.assert_allclose(table[:, 0::2], np.sin(k / 10000 ** (2 * i / 24)), atol=1e-5)
    np.testing.assert_allclose(table[:, 1::2], np.cos(k / 10000 ** (2 * i / 24)), atol=1e-5)


def test_bfloat16_stays_near_float32():
    for version in VERSIONS:
        x = clips(1, 4)
        found = np.asarray(run(small(version, jnp.bfloat16), x.astype(jnp.bfloat16), lengths(4)).astype(jnp.float32))
        expected = np.asarray(run(small(version), x, lengths(4)))
        assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max(), version


def test_v2_refuses_frames_of_another_size():
    with pytest.raises(ValueError, match="got frames of 4 patches of width 16, the pooling layer scores 6 of width 16"):
        small("valley_v2")(clips(1, 2, patches=4), lengths(2))


def test_v3_refuses_widths_and_lengths_that_it_cannot_have():
    with pytest.raises(ValueError, match="width 20 is not a multiple of 8, the heads of Valley's temporal transformer"):
        FrameTransformer(20, rngs=nnx.Rngs(0))
    module = nnx.eval_shape(lambda: FrameTransformer(8, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="got clips of 2049 frames, the position table has 2048 rows"):
        module(jnp.zeros((1, 2049, 2, 8)), lengths(2049))
