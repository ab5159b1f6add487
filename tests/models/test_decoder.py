"""The decoder's promises: order, packing, trees, cache, depth, precision, gradients."""

import json
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models.tiny import SPEC, tiny_model
from vidlmm.models import Decoder

LENGTH = 12
CLOSE = 2e-5


def ids(rows: int = 2, length: int = LENGTH, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).integers(0, SPEC.decoder.vocab, (rows, length)), jnp.int32)


def places(rows: int = 2, length: int = LENGTH) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Position, segment and branch of full rows."""
    position = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (rows, length))
    return position, jnp.ones_like(position), jnp.zeros_like(position)


def run(decoder: Decoder, tokens: jax.Array, *where: jax.Array) -> np.ndarray:
    graph, params = nnx.split(decoder)
    call = jax.jit(lambda p, *a: nnx.merge(graph, p)(p["embed"][...][tokens], *a))
    return np.asarray(call(params, *where))


def test_a_layer_that_adds_nothing_changes_nothing():
    """Depth is one axis: three layers of which the last adds zero are the first two."""
    deep = tiny_model(layers=3).decoder
    params: Any = nnx.state(deep)
    for name in ("out", "down"):
        params["layers"][name][...] = params["layers"][name][...].at[2].set(0)
    nnx.update(deep, params)
    shallow = tiny_model(layers=2).decoder
    for name, leaf in params["layers"].items():
        getattr(shallow.layers, name)[...] = leaf[...][:2]
    shallow.embed[...], shallow.norm[...] = deep.embed[...], deep.norm[...]
    tokens, where = ids(), places()
    np.testing.assert_allclose(run(deep, tokens, *where), run(shallow, tokens, *where), atol=CLOSE)


def test_program_size_does_not_grow_with_depth():
    def size(layers: int) -> int:
        graph, params = nnx.split(tiny_model(layers=layers).decoder)
        x = jnp.zeros((2, LENGTH, SPEC.decoder.width))
        return len(str(jax.make_jaxpr(lambda p: nnx.merge(graph, p)(x, *places()))(params)).splitlines())

    assert size(2) == size(5)


def test_the_future_is_not_seen():
    decoder, tokens, where = tiny_model().decoder, ids(), places()
    changed = tokens.at[:, 7].add(1) % SPEC.decoder.vocab
    before, after = run(decoder, tokens, *where), run(decoder, changed, *where)
    np.testing.assert_array_equal(before[:, :7], after[:, :7])
    assert (np.abs(before[:, 7:] - after[:, 7:]).max(axis=-1) > 1e-4).all()


def test_packed_segments_are_separate_rows():
    decoder, tokens = tiny_model().decoder, ids(1)
    position = jnp.asarray([[0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 0, 0]], jnp.int32)
    segment = jnp.asarray([[1] * 5 + [2] * 4 + [0] * 3], jnp.int32)
    packed = run(decoder, tokens, position, segment, jnp.zeros_like(segment))
    for span in (slice(0, 5), slice(5, 9)):
        alone = run(decoder, tokens[:, span], *places(1, span.stop - span.start))
        np.testing.assert_allclose(packed[:, span], alone, atol=CLOSE)
    assert np.isfinite(packed).all()


def test_a_tree_row_equals_separate_rows():
    decoder, tokens = tiny_model().decoder, ids(1)
    # Prefix 0..3; branch 1 copies place 3 and goes on with three tokens, branch 2 with four.
    prefix, first, second = tokens[:, :4], tokens[:, 4:7], tokens[:, 7:11]
    row = jnp.concatenate([prefix[:, :3], prefix[:, 3:], first, prefix[:, 3:], second], axis=1)
    position = jnp.asarray([[0, 1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 7]], jnp.int32)
    branch = jnp.asarray([[0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2]], jnp.int32)
    joint = run(decoder, row, position, jnp.ones_like(branch), branch)
    for tail, span in ((first, slice(3, 7)), (second, slice(7, 12))):
        whole = jnp.concatenate([prefix, tail], axis=1)
        alone = run(decoder, whole, *places(1, whole.shape[1]))
        np.testing.assert_allclose(joint[:, span], alone[:, 3:], atol=CLOSE)
        np.testing.assert_allclose(joint[:, :3], alone[:, :3], atol=CLOSE)


@pytest.mark.parametrize("tied", [True, False])
def test_decoding_with_a_cache_equals_the_full_row_at_every_step(tied: bool):
    decoder, tokens = tiny_model(tied_head=tied).decoder, ids(3)
    full = run(decoder, tokens, *places(3))
    graph, params = nnx.split(decoder)
    embeds = decoder.embed[...][tokens]
    lengths = jnp.asarray([5, 3, 1], jnp.int32)
    position, segment, _ = places(3, 5)
    segment = (position < lengths[:, None]).astype(jnp.int32)
    # Padding of a prompt must not matter: it carries other tokens here.
    prompt = jnp.where(segment[..., None] == 1, embeds[:, :5], 9.0)
    cache = decoder.init_cache(3, LENGTH)
    hidden, cache = jax.jit(lambda p, *a: nnx.merge(graph, p).prefill(*a))(params, prompt, position, segment, cache)
    for slot, length in enumerate(lengths.tolist()):
        np.testing.assert_allclose(hidden[slot, :length], full[slot, :length], atol=CLOSE)
    step = jax.jit(lambda p, *a: nnx.merge(graph, p).step(*a))
    for _ in range(LENGTH - 5):
        at = cache.length
        hidden, cache = step(params, jnp.take_along_axis(embeds, at[:, None, None], axis=1), at, cache)
        expected = np.stack([full[slot, place] for slot, place in enumerate(at.tolist())])
        np.testing.assert_allclose(hidden[:, 0], expected, atol=CLOSE)
    assert cache.length.tolist() == [12, 10, 8]


def test_rows_read_in_two_parts_equal_the_full_rows_and_go_on():
    decoder, tokens = tiny_model().decoder, ids(3)
    full = run(decoder, tokens, *places(3))
    graph, params = nnx.split(decoder)
    embeds = decoder.embed[...][tokens]
    begun, more = jnp.asarray([5, 3, 1], jnp.int32), jnp.asarray([2, 4, 1], jnp.int32)
    position, segment, _ = places(3, 5)
    segment = (position < begun[:, None]).astype(jnp.int32)
    _, cache = decoder.prefill(embeds[:, :5], position, segment, decoder.init_cache(3, 5))
    # Padding carries other tokens here, in both parts.
    rest = jnp.arange(4, dtype=jnp.int32)[None] + begun[:, None]
    inside = (rest < (begun + more)[:, None]).astype(jnp.int32)
    after = jnp.where(inside[..., None] == 1, jnp.take_along_axis(embeds, rest[..., None], axis=1), 9.0)
    hidden, longer = jax.jit(lambda p, *a: nnx.merge(graph, p).extend(*a))(params, after, rest, inside, cache)
    assert longer.capacity == 9 and longer.length.tolist() == [7, 7, 2]
    for slot, (start, count) in enumerate(zip(begun.tolist(), more.tolist(), strict=True)):
        np.testing.assert_allclose(hidden[slot, :count], full[slot, start : start + count], atol=CLOSE)
        np.testing.assert_array_equal(longer.k[:, slot, :, :start], cache.k[:, slot, :, :start])
    np.testing.assert_array_equal(longer.segment, np.arange(9) < np.array([[7], [7], [2]]))
    step = jax.jit(lambda p, *a: nnx.merge(graph, p).step(*a))
    for _ in range(2):
        at = longer.length
        hidden, longer = step(params, jnp.take_along_axis(embeds, at[:, None, None], axis=1), at, longer)
        np.testing.assert_allclose(hidden[:, 0], full[np.arange(3), np.asarray(at)], atol=CLOSE)


def test_rows_read_in_two_parts_on_eight_devices_are_those_of_one():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "PYTHONPATH": ".", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "tests.models.parts_on_mesh"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert len(found) == 3 and max(found.values()) <= CLOSE, found


def test_inactive_and_full_slots_stay_as_they_are():
    decoder, tokens = tiny_model().decoder, ids(2)
    embeds = decoder.embed[...][tokens]
    position, segment, _ = places(2, 4)
    segment = segment.at[1, 2:].set(0)
    _, cache = decoder.prefill(embeds[:, :4], position, segment, decoder.init_cache(2, 4))
    _, same = decoder.step(embeds[:, :1], cache.length, cache, jnp.asarray([True, False]))
    for before, after in zip(cache, same, strict=True):
        np.testing.assert_array_equal(before, after)
    _, moved = decoder.step(embeds[:, :1], cache.length, cache)
    assert moved.length.tolist() == [4, 3]
    np.testing.assert_array_equal(moved.k[:, 0], cache.k[:, 0])


def test_rows_that_do_not_fit_the_cache_are_refused():
    decoder = tiny_model().decoder
    position, segment, _ = places(2, 5)
    with pytest.raises(ValueError, match="hold 5 tokens, the cache 4"):
        decoder.prefill(jnp.zeros((2, 5, SPEC.decoder.width)), position, segment, decoder.init_cache(2, 4))
    with pytest.raises(ValueError, match="2 rows for a cache of 3 slots"):
        decoder.prefill(jnp.zeros((2, 5, SPEC.decoder.width)), position, segment, decoder.init_cache(3, 8))
    with pytest.raises(ValueError, match="2 rows for a cache of 3 slots"):
        decoder.extend(jnp.zeros((2, 5, SPEC.decoder.width)), position, segment, decoder.init_cache(3, 8))


def test_head_counts_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="heads 4 is not a multiple of kv_heads 3"):
        tiny_model(kv_heads=3)
