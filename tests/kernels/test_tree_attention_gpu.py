"""tree_attention: the kernels for GPUs against the specification, step by step on this machine."""

import re
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.kernels.close import compare, drawn, exactly, in_float64, rounded, values_and_pulls
from tests.kernels.test_tree_attention import trees
from vidlmm.kernels import KernelError, compiling_for, tree_attention
from vidlmm.kernels.specs import ROWS, RowSpec, cut_row
from vidlmm.kernels.tree_attention import reference
from vidlmm.kernels.tree_attention.heads import SAVED
from vidlmm.kernels.tree_attention.launches_gpu import Pass, launch_of, sizes_of
from vidlmm.kernels.tree_attention.meetings import lists
from vidlmm.kernels.tree_attention.rule import Ids, sight, visible

ON_GPU: dict[str, Any] = {"backend": "gpu", "interpret": True}
GPU = SimpleNamespace(platform="gpu", device_kind="NVIDIA H100")


def _arrays(seed: int, spec: RowSpec, queries: int | None = None) -> list[np.ndarray]:
    """Two rows of which all or some places are queries."""
    keys = (2, spec.heads, spec.length, spec.depth)
    return drawn(seed, (2, spec.heads, spec.groups, queries or spec.length, spec.depth), keys, keys)


def _call(queries: Ids, keys: Ids, **options: Any) -> Any:
    return lambda q, k, v: tree_attention(q, k, v, queries, keys, **(ON_GPU | options))


def _specified(queries: Ids, keys: Ids) -> Any:
    return lambda q, k, v: reference.tree_attention(q, k, v, queries, keys)


def _shapes(spec: RowSpec, dtype: Any = jnp.bfloat16) -> tuple[Any, Any]:
    """Queries and keys of one row, in the place of arrays."""
    q = (1, spec.heads, spec.groups, spec.length // spec.parts, spec.depth)
    k = (1, spec.heads, spec.length, spec.depth)
    return jax.ShapeDtypeStruct(q, dtype), jax.ShapeDtypeStruct(k, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", [spec for spec in ROWS if spec.parts == 1], ids=lambda spec: spec.name)
def test_values_and_gradients(spec, dtype):
    """Rows of trees and padding, whose length no block divides."""
    spec = cut_row(spec)
    who = trees(spec.depth + spec.groups, 2, spec.length)
    arrays = rounded(_arrays(spec.depth, spec), dtype)
    wanted = in_float64(_specified(who, who), exactly(arrays), 7)
    compare(values_and_pulls(_call(who, who), arrays, 7), wanted, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_widest_heads(dtype):
    spec = RowSpec("wide", 150, 1, 2, 256)
    who = trees(4, 2, spec.length)
    arrays = rounded(_arrays(4, spec), dtype)
    wanted = in_float64(_specified(who, who), exactly(arrays), 7)
    compare(values_and_pulls(_call(who, who), arrays, 7), wanted, dtype)


def test_queries_may_be_any_part_of_the_rows_in_any_order():
    spec = RowSpec("part", 300, 1, 2, 16)
    who = trees(3, 2, spec.length)
    part = np.random.default_rng(0).permutation(spec.length)[:141]
    own = Ids(*(x[:, part] for x in who))
    arrays = rounded(_arrays(5, spec, 141), "float32")
    wanted = in_float64(_specified(own, who), exactly(arrays), 9)
    compare(values_and_pulls(_call(own, who), arrays, 9), wanted, "float32")


def test_blocks_do_not_matter():
    """In float64, so that nothing but the order of sums differs."""
    spec = RowSpec("blocks", 300, 1, 2, 24)
    who = trees(11, 2, spec.length)
    with jax.enable_x64(True):
        arrays = [jnp.asarray(x) for x in _arrays(13, spec)]
        wanted = values_and_pulls(_specified(who, who), arrays, 5)
        for block in (None, (16, 64), (256, 32)):
            found = values_and_pulls(_call(who, who, block=block), arrays, 5)
            for one, right in zip(found, wanted, strict=True):
                np.testing.assert_allclose(one, right, rtol=1e-12, atol=1e-12)


def test_padding_gets_zeros_and_gives_zero_gradients():
    """A row that ends early, with blocks of padding alone, and a row of nothing: all is written."""
    spec = RowSpec("padding", 300, 1, 2, 16)
    segment = np.zeros((2, spec.length), np.int32)
    segment[0, :100] = 1
    who = sight(jnp.asarray(segment), jnp.zeros_like(segment))
    arrays = rounded(_arrays(17, spec), "float32")
    out, d_q, d_k, d_v = values_and_pulls(_call(who, who, block=(32, 32)), arrays, 3)
    for found in (out, d_q):
        assert found[0, :, :, :100].any() and not found[0, :, :, 100:].any() and not found[1].any()
    for found in (d_k, d_v):
        assert found[0, :, :100].any() and not found[0, :, 100:].any() and not found[1].any()


@pytest.mark.parametrize("of_keys", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_lists_are_of_blocks_in_which_somebody_sees_somebody(seed, of_keys):
    """Nobody who is seen is left out; where nothing is masked everybody is seen; no block is listed twice."""
    who = trees(seed, 2, 512)
    blocks, ends = map(np.asarray, lists(who, who, 64, 32, of_keys=of_keys))
    seen: Any = np.asarray(visible(who, who)).reshape(2, 8, 64, 16, 32).transpose(0, 1, 3, 2, 4)
    seen = seen.swapaxes(1, 2) if of_keys else seen
    some, every = seen.any(axis=(3, 4)), seen.all(axis=(3, 4))
    assert blocks.shape == some.shape and ends[..., 1].sum() < some.size
    for row, own in np.ndindex(*ends.shape[:2]):
        masked, end = ends[row, own]
        listed = blocks[row, own, :end]
        assert len(set(listed.tolist())) == end and set(np.flatnonzero(some[row, own])) <= set(listed.tolist())
        assert every[row, own, listed[masked:]].all()
    assert np.any(ends[..., 0] < ends[..., 1])


@pytest.mark.parametrize("kind", ["", "_dx", "_dx_keys"])
@pytest.mark.parametrize("spec", [ROWS[1], ROWS[3], RowSpec("odd", 1000, 2, 3, 64)], ids=lambda spec: spec.name)
def test_what_programs_ask_for_follows_from_the_lists(spec: RowSpec, kind: Pass):
    """Of plain causal rows, where the queries are the last places: lines, tiles, ids of masked tiles."""
    q, k = _shapes(spec)
    s = sizes_of(q, k, None, interpret=False)
    tile, launch, programs = s.tile(kind), launch_of(s, kind), spec.heads * spec.groups
    keys = sight(jnp.ones((1, s.keys), jnp.int32), jnp.zeros((1, s.keys), jnp.int32))
    queries = Ids(*(x[:, s.keys - s.queries :] for x in keys))
    own, others = (
        Ids(*(jnp.pad(x, ((0, 0), (0, -x.shape[1] % size))) for x in ids))
        for ids, size in ((queries, tile.queries), (keys, tile.keys))
    )
    of_keys = kind == "_dx_keys"
    blocks, ends = map(np.asarray, lists(own, others, tile.queries, tile.keys, of_keys=of_keys))
    size, length, other = (tile.queries, s.queries, s.keys) if of_keys else (tile.keys, s.keys, s.queries)
    met = [block for line, (_, end) in zip(blocks[0], ends[0], strict=True) for block in line[:end].tolist()]
    places, masked = sum(min(size, length - size * block) for block in met), int(ends[..., 0].sum())
    # How often a block's own places are read: by each head, or once for the group.
    times = spec.heads if of_keys else programs
    listed = 4 * (programs * len(met) + times * ends.size)
    ids = 3 * 4 * (programs * masked * size + times * other)
    tiles = 2 * s.depth * (2 * programs * places + {"": 2, "_dx": 3, "_dx_keys": 4}[kind] * times * other)
    numbers = (1 if kind == "" else 2) * 4 * programs * (places if of_keys else s.queries)
    assert launch.asked == listed + ids + tiles + numbers


def test_bytes_once_are_those_of_the_arrays():
    """One block that sees one block."""
    q, k = _shapes(RowSpec("small", 64, 1, 2, 64))
    s = sizes_of(q, k, (64, 64), interpret=False)
    of_q, of_k, numbers, rest = 2 * 2 * 64 * 64, 2 * 64 * 64, 4 * 2 * 64, 2 * 4 * 3 * 64 + 4 * (1 + 2)
    assert launch_of(s, "").once == 2 * of_q + 2 * of_k + numbers + rest
    assert launch_of(s, "_dx").once == 3 * of_q + 2 * of_k + 2 * numbers + rest
    assert launch_of(s, "_dx_keys").once == 2 * of_q + 4 * of_k + 2 * numbers + rest


def test_a_long_rows_program_holds_no_square():
    """Nor anything that comes near it: nothing is larger than the queries."""
    spec = RowSpec("long", 8192, 1, 2, 16)
    q, k = _shapes(spec)
    ids = jax.ShapeDtypeStruct((1, spec.length), jnp.int32)

    def gradients(q, k, v, segment, branch):
        def loss(q, k, v):
            who = sight(segment, branch)
            return jnp.sum(tree_attention(q, k, v, who, who, backend="gpu").astype(jnp.float32))

        return jax.grad(loss, (0, 1, 2))(q, k, v)

    with compiling_for(GPU):
        text = str(jax.make_jaxpr(gradients)(q, k, k, ids, ids))
    assert text.count("name=tree_attention_gpu") >= 3
    sizes = [np.prod([int(n) for n in shape.split(",")]) for shape in re.findall(r"\[(\d+(?:,\d+)*)\]", text)]
    assert max(sizes) == np.prod(q.shape) < spec.length**2 / 128


def test_a_policy_may_keep_what_the_backward_pass_reads():
    """Then the compiled program does not run the forward kernel again."""
    spec = RowSpec("kept", 64, 1, 1, 16)
    who = trees(1, 2, spec.length)

    def loss(q, k, v):
        return jnp.sum(_call(who, who)(q, k, v) ** 2)

    arrays = rounded(_arrays(1, spec), "float32")
    for names, again in ((SAVED,), False), ((), True):
        policy = jax.checkpoint_policies.save_only_these_names(*names)
        gradient = jax.grad(jax.checkpoint(loss, policy=policy))
        text: Any = jax.jit(gradient).lower(*arrays).compile().as_text()
        assert bool(re.search(r"rematted_computation/tree_attention_gpu/tree_attention_gpu/while", text)) == again


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 12}, "multiples of 8 up to 256"),
        ({"depth": 264}, "multiples of 8 up to 256"),
        ({"dtype": jnp.float16}, "both bfloat16 or both float32"),
        ({"dtype": jnp.float64, "interpret": False}, "both bfloat16 or both float32"),
        ({"block": (128, 48)}, "powers of two from 16 to 256"),
        ({"block": (512, 64)}, "powers of two from 16 to 256"),
    ],
)
def test_limits(untyped, change, message):
    """Raised before anything is traced."""
    q, k = _shapes(RowSpec("limits", 64, 1, 2, change.get("depth", 16)), change.get("dtype", jnp.float32))
    one: Any = jax.ShapeDtypeStruct((1, 64), jnp.int32)
    ids = Ids(one, one, one)
    options = {name: change[name] for name in change.keys() & {"block", "interpret"}}
    with pytest.raises(KernelError, match=message):
        _call(ids, ids, **options)(q, k, k)


def test_nothing_stands_in_for_the_kernel():
    """Named where there is no GPU; "auto" never takes it where there is one."""
    spec = RowSpec("named", 64, 1, 1, 16)
    who = trees(1, 2, spec.length)
    arrays = rounded(_arrays(1, spec), "float32")
    with pytest.raises(KernelError, match="'gpu' does not run on cpu"):
        _call(who, who, interpret=False)(*arrays)
    with compiling_for(GPU):
        text = str(jax.make_jaxpr(_call(who, who, backend="auto", interpret=False))(*arrays))
    assert "pallas_call" not in text and "tree_attention_gpu" not in text
