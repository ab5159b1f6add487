"""tree_attention: the kernels for TPU against the specification, step by step on this machine."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.kernels.close import compare, drawn, exactly, in_float64, rounded, values_and_pulls
from vidlmm.kernels import KernelError, compiling_for, tree_attention
from vidlmm.kernels.specs import ROWS
from vidlmm.kernels.tree_attention import reference, tpu
from vidlmm.kernels.tree_attention.heads import SAVED
from vidlmm.kernels.tree_attention.launches import causal_meetings, launch_of, sizes_of
from vidlmm.kernels.tree_attention.meetings import FIRST, LAST, WHOLE, Code, meetings
from vidlmm.kernels.tree_attention.rule import Ids, sight, visible

INTERPRETED: dict[str, Any] = {"backend": "tpu", "interpret": True}


def trees(seed: int, rows: int, length: int) -> Ids:
    """Rows of segments, each a prefix and branches, and padding between and behind them, of random lengths."""
    rng = np.random.default_rng(seed)
    segment, branch = np.zeros((2, rows, length), np.int32)
    for row in range(rows):
        at, number = 0, 0
        while at < length:
            number += 1
            for one in range(int(rng.integers(1, 5))):
                count = int(rng.integers(1, length // 3))
                segment[row, at : at + count], branch[row, at : at + count] = number, one
                at += count
            at += int(rng.integers(0, length // 4))
    return sight(jnp.asarray(segment), jnp.asarray(branch))


def _arrays(seed: int, rows: int, heads: int, groups: int, places: tuple[int, int], depth: int) -> list[np.ndarray]:
    of_keys = (rows, heads, places[1], depth)
    return drawn(seed, (rows, heads, groups, places[0], depth), of_keys, of_keys)


def _call(queries: Ids, keys: Ids, **options: Any) -> partial:
    return partial(_with_ids, queries=queries, keys=keys, options=options)


def _with_ids(q, k, v, queries, keys, options):
    return tree_attention(q, k, v, queries, keys, **options)


def _shape(shape: tuple[int, ...], dtype: Any) -> Any:
    """In the place of an array, where nothing is run."""
    return jax.ShapeDtypeStruct(shape, dtype)


def _specified(queries: Ids, keys: Ids):
    return lambda q, k, v: reference.tree_attention(q, k, v, queries, keys)


@pytest.mark.parametrize(
    ("heads", "groups", "length", "depth", "block", "dtype"),
    [
        (1, 7, 200, 64, None, "float32"),  # 0.5B: one block, the odd rest of it filled up
        (2, 2, 390, 128, (128, 128), "float32"),  # several blocks of each
        (2, 2, 390, 128, (128, 128), "bfloat16"),
        (1, 3, 300, 72, (256, 128), "float32"),
        (1, 1, 300, 80, (128, 256), "bfloat16"),
    ],
)
def test_values_and_gradients(heads, groups, length, depth, block, dtype):
    who = trees(length + depth, 2, length)
    arrays = rounded(_arrays(depth, 2, heads, groups, (length, length), depth), dtype)
    wanted = in_float64(_specified(who, who), exactly(arrays), 7)
    compare(values_and_pulls(_call(who, who, block=block, **INTERPRETED), arrays, 7), wanted, dtype)


def test_queries_may_be_any_part_of_the_rows_in_any_order():
    who = trees(3, 2, 300)
    part = np.random.default_rng(0).permutation(300)[:140]
    own = Ids(*(x[:, part] for x in who))
    arrays = rounded(_arrays(5, 2, 1, 2, (140, 300), 16), "float32")
    wanted = in_float64(_specified(own, who), exactly(arrays), 9)
    compare(values_and_pulls(_call(own, who, block=(128, 128), **INTERPRETED), arrays, 9), wanted, "float32")


def test_blocks_and_parts_of_the_keys_do_not_matter(monkeypatch):
    """In float64, so that nothing but the order of sums differs: blocks of other sizes, and keys in three parts."""
    who = trees(11, 2, 300)
    with jax.enable_x64(True):
        arrays = [jnp.asarray(x) for x in _arrays(13, 2, 1, 2, (300, 300), 8)]
        wanted = values_and_pulls(_specified(who, who), arrays, 5)
        whole = values_and_pulls(_call(who, who, **INTERPRETED), arrays, 5)
        monkeypatch.setattr(tpu, "RESIDENT", 1)
        parts = values_and_pulls(_call(who, who, block=(128, 128), **INTERPRETED), arrays, 5)
    for found in (whole, parts):
        for one, right in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, right, rtol=1e-12, atol=1e-12)


def test_padding_gets_zeros_and_gives_zero_gradients():
    """A row that ends early, with blocks of padding alone, and a row of nothing."""
    segment = np.zeros((2, 384), np.int32)
    segment[0, :150] = 1
    who = sight(jnp.asarray(segment), jnp.zeros((2, 384), jnp.int32))
    arrays = rounded(_arrays(17, 2, 1, 2, (384, 384), 8), "float32")
    out, d_q, d_k, d_v = values_and_pulls(_call(who, who, block=(128, 128), **INTERPRETED), arrays, 3)
    for found in (out, d_q):
        assert found[0, :, :, :150].any() and not found[0, :, :, 150:].any() and not found[1].any()
    for found in (d_k, d_v):
        assert found[0, :, :150].any() and not found[0, :, 150:].any() and not found[1].any()


@pytest.mark.parametrize("seed", range(3))
def test_meetings_are_those_in_which_somebody_sees_somebody(seed):
    """Nobody who is seen is left out; where nothing is masked everybody is seen; the flags stand at first and last."""
    who, block = trees(seed, 2, 512), 64
    listed, count = (np.asarray(x) for x in meetings(who, who, block, block))
    code = Code(2, 8, 8)
    met = {(code.row(m), code.query(m), code.key(m)): m for m in listed[:count].tolist()}
    assert len(met) == count and sorted(met.values()) == listed[:count].tolist()
    assert np.all(listed[count:] == listed[count - 1])
    seen = np.asarray(visible(who, who)).reshape(2, 8, block, 8, block).transpose(0, 1, 3, 2, 4)
    for place, pairs in np.ndenumerate(np.any(seen, axis=(3, 4))):
        assert place in met or not pairs
        assert not (place in met and met[place] & WHOLE) or seen[place].all()
    for row, query in np.ndindex(2, 8):
        own = [flags for (r, q, _), flags in met.items() if (r, q) == (row, query)]
        assert [bool(m & FIRST) for m in own] == [n == 0 for n in range(len(own))]
        assert [bool(m & LAST) for m in own] == [n == len(own) - 1 for n in range(len(own))]
    assert count < 2 * 8 * 8


@pytest.mark.parametrize("parts", [1, 2])
def test_what_is_declared_is_the_work_of_plain_causal_rows(parts):
    """The last of the devices that share a row has the most."""
    length, groups, depth = 3000, 2, 64
    own = length // parts
    q = jax.ShapeDtypeStruct((2, 3, groups, own, depth), jnp.bfloat16)
    k = jax.ShapeDtypeStruct((2, 3, length, depth), jnp.bfloat16)
    sizes = sizes_of(q, k, (256, 512), interpret=False)
    keys = sight(jnp.ones((2, length), jnp.int32), jnp.zeros((2, length), jnp.int32))
    queries = Ids(*(x[:, length - own :] for x in keys))
    filled = tpu._ids_filled(queries, sizes.queries), tpu._ids_filled(keys, sizes.keys)
    listed, count = (np.asarray(x) for x in meetings(filled[0], filled[1], 256, 512))
    flags = WHOLE | FIRST | LAST
    np.testing.assert_array_equal(causal_meetings(sizes) & ~flags, listed & ~flags)
    for launch, products in ((launch_of(sizes, ""), 2), (launch_of(sizes, "_dx"), 5)):
        assert launch.flops == 2 * products * 3 * groups * int(count) * 256 * 512 * depth
        assert launch.declared == launch.moved(listed)
    assert int(tpu.steps(queries, keys, sizes)) == count


def test_bytes_are_counted_from_the_meetings():
    """One block of queries that sees all of two blocks of keys: everything once."""
    q = jax.ShapeDtypeStruct((1, 1, 2, 256, 64), jnp.bfloat16)
    k = jax.ShapeDtypeStruct((1, 1, 256, 64), jnp.bfloat16)
    sizes = sizes_of(q, k, (256, 128), interpret=False)
    of_q, of_k, numbers, ids = 2 * 2 * 256 * 64, 2 * 256 * 64, 4 * 2 * 256, 2 * 3 * 256 * 4
    forward, gradients = launch_of(sizes, ""), launch_of(sizes, "_dx")
    assert forward.declared == 2 * of_q + 2 * of_k + numbers + ids
    assert gradients.declared == 3 * of_q + 2 * of_k + 2 * numbers + ids + 2 * 2 * of_k


@pytest.mark.parametrize("spec", ROWS, ids=lambda spec: spec.name)
def test_rows_of_the_systems_fit(spec):
    """Blocks cut their rows evenly, and nothing is filled up; gradients of 51,200 keys go through in parts."""
    q = jax.ShapeDtypeStruct((1, spec.heads, spec.groups, spec.length // spec.parts, spec.depth), jnp.bfloat16)
    k = jax.ShapeDtypeStruct((1, spec.heads, spec.length, spec.depth), jnp.bfloat16)
    sizes = sizes_of(q, k, None, interpret=False)
    assert (sizes.queries, sizes.keys) == (sizes.true_queries, sizes.true_keys)
    parts = sizes.parts(tpu.RESIDENT)
    assert [own.stop for own, _ in parts][-1] == spec.length and len(parts) == (2 if spec.length > 40000 else 1)
    assert max(launch_of(sizes, "").held, *(launch_of(part, "_dx").held for _, part in parts)) < 50 * 2**20


def test_a_policy_may_keep_what_the_backward_pass_reads():
    """Then the compiled program does not run the forward kernel again."""
    who = trees(1, 1, 128)

    def loss(q, k, v):
        return jnp.sum(tree_attention(q, k, v, who, who, **INTERPRETED) ** 2)

    arrays = rounded(_arrays(1, 1, 1, 1, (128, 128), 8), "float32")
    for names, again in ((SAVED,), False), ((), True):
        policy = jax.checkpoint_policies.save_only_these_names(*names)
        gradient = jax.grad(jax.checkpoint(loss, policy=policy))
        text: Any = jax.jit(gradient).lower(*arrays).compile().as_text()
        assert bool(re.search(r"rematted_computation/tree_attention_tpu/tree_attention_tpu/while", text)) == again


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": (1, 2, 128, 9)}, "queries .* with keys"),
        ({"ids": (1, 127)}, "one a row and place"),
        ({"q": (1, 2, 2, 128, 12), "k": (1, 2, 128, 12)}, "multiples of 8 up to 256"),
        ({"q": (1, 2, 17, 128, 8)}, "up to 16 query heads"),
        ({"dtype": jnp.float16}, "both bfloat16 or both float32"),
        ({"block": (128, 100)}, "multiples of 128"),
        ({"q": (1, 1, 16, 2**18, 8), "k": (1, 1, 2**18, 8), "ids": (1, 2**18)}, "the TPU kernel lists"),
    ],
)
def test_limits(untyped, change, message):
    """Raised before anything is traced."""
    shapes = {"q": (1, 2, 2, 128, 8), "k": (1, 2, 128, 8), "ids": (1, 128)} | {
        name: change[name] for name in change.keys() & {"q", "k", "ids"}
    }
    kind = change.get("dtype", jnp.float32)
    q, k = (_shape(shapes[name], kind) for name in ("q", "k"))
    one = _shape(shapes["ids"], jnp.int32)
    ids = Ids(one, one, one)
    options = {"block": change["block"]} if "block" in change else {}
    with pytest.raises(KernelError, match=message):
        tree_attention(q, k, k, ids, ids, backend="tpu", **options)


def test_auto_leaves_to_plain_jax_what_the_kernel_does_not_take():
    """Heads of size 4 on a TPU, of this machine's memory."""

    class Device:
        platform, device_kind = "tpu", "TPU v5p"

    who = trees(2, 1, 64)
    for depth, name in ((4, "tree_attention_xla"), (8, "tree_attention_tpu")):
        arrays = rounded(_arrays(2, 1, 1, 1, (64, 64), depth), "float32")
        call = jax.jit(_call(who, who, interpret=True))
        with compiling_for(Device()):
            assert f"{name}/" in call.lower(*arrays).as_text(debug_info=True)


@pytest.mark.parametrize(
    ("kind", "places", "auto"),
    [("TPU v5 lite", 8192, "xla"), ("TPU v6 lite", 8192, "xla"), ("TPU v6 lite", 16384, "tpu"), ("TPU v5p", 64, "tpu")],
)
def test_auto_leaves_to_xla_what_it_holds_on_the_chip(kind: str, places: int, auto: str):
    """34 MB and 67 MB on v5e and v6e; nothing on v5p. A named backend runs all the same."""

    class Device:
        platform, device_kind = "tpu", kind

    q = jax.ShapeDtypeStruct((1, 2, 7, places, 64), jnp.bfloat16)
    k = jax.ShapeDtypeStruct((1, 2, places, 64), jnp.bfloat16)
    segment = jnp.ones((1, places), jnp.int32)
    who = sight(segment, jnp.zeros_like(segment))
    for options, name in (({}, auto), ({"backend": "tpu"}, "tpu")):
        with compiling_for(Device()):
            text = (
                jax.jit(_call(who, who, **options))
                .trace(q, k, k)
                .lower(lowering_platforms=("tpu",))
                .as_text(debug_info=True)
            )
        assert f"tree_attention_{name}/" in text
