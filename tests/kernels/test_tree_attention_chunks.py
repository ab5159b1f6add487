"""The attention of rows: chunk by chunk, on parts of rows, in every precision, against the plain form."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidlmm.kernels.tree_attention import reference, xla
from vidlmm.kernels.tree_attention.rule import Ids, sight, visible


def plain(q, k, v, queries: Ids, keys: Ids):
    """The rule written out for every pair; where nothing is seen, zeros."""
    at = [np.asarray(x)[:, :, None] for x in queries]
    of = [np.asarray(x)[:, None, :] for x in keys]
    mask = (of[0] <= at[0]) & (of[1] == at[1]) & (at[1] != 0) & ((of[2] == 0) | (of[2] == at[2]))
    seen = mask.any(-1)[:, None, None, :, None]
    scores = jnp.einsum("bkgqd,bksd->bkgqs", q, k) / np.sqrt(q.shape[-1])
    # Where nothing is seen the softmax is over everything, so that it is finite, and dropped.
    weights = jax.nn.softmax(jnp.where(mask[:, None, None] | ~seen, scores, -jnp.inf), axis=-1)
    return jnp.where(seen, jnp.einsum("bkgqs,bksd->bkgqd", weights, v), 0).astype(q.dtype)


def rows(length: int, depth: int = 8, dtype: Any = np.float32):
    """Two rows: two segments, of which the first is a tree that begins in its middle; one segment and padding."""
    rng = np.random.default_rng(length)
    q = rng.standard_normal((2, 2, 3, length, depth)).astype(dtype)
    k, v = (rng.standard_normal((2, 2, length, depth)).astype(dtype) for _ in range(2))
    segment = np.ones((2, length), np.int32)
    segment[0, 2 * length // 3 :] = 2
    segment[1, length - length // 4 :] = 0
    branch = np.zeros((2, length), np.int32)
    branch[0, length // 3 : length // 2] = 1
    branch[0, length // 2 : 2 * length // 3] = 2
    return q, k, v, sight(jnp.asarray(segment), jnp.asarray(branch))


def both(q, k, v, queries: Ids, keys: Ids):
    """Values and gradients of ours and of the plain form."""
    pull = np.random.default_rng(1).standard_normal(q.shape).astype(q.dtype)

    def outcome(call):
        def run(pull, *x):
            out, back = jax.vjp(lambda *x: call(*x, queries, keys), *x)
            return out, *back(pull)

        return jax.jit(run)(*(jnp.asarray(x) for x in (pull, q, k, v)))

    return outcome(xla.tree_attention), outcome(plain)


def far(ours, theirs) -> float:
    """The largest difference, each array measured by its largest number."""
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(ours, theirs, strict=True))


def test_the_specification_is_the_plain_form():
    q, k, v, who = rows(50)
    with jax.enable_x64(True):
        wide = [jnp.asarray(x, jnp.float64) for x in (q, k, v)]
        q, k, v = wide
        found, wanted = reference.tree_attention(q, k, v, who, who), plain(q, k, v, who, who)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("length", "chunk"), [(50, 512), (600, 512), (600, 64)])
def test_values_and_gradients_are_those_of_the_plain_form(length: int, chunk: int, monkeypatch):
    """The chunks of a CPU are the small ones; with larger ones it does what other devices do."""
    monkeypatch.setattr(xla, "CPU_CHUNK", chunk)
    q, k, v, who = rows(length)
    assert far(*both(q, k, v, who, who)) < 2e-6


def test_queries_may_be_any_part_of_the_rows_in_any_order(monkeypatch):
    monkeypatch.setattr(xla, "CHUNK", 64)
    q, k, v, who = rows(300)
    part = np.random.default_rng(0).permutation(300)[:130]
    assert far(*both(q[:, :, :, part], k, v, Ids(*(x[:, part] for x in who)), who)) < 2e-6


def test_float64_is_computed_in_float64(monkeypatch):
    monkeypatch.setattr(xla, "CHUNK", 64)
    with jax.enable_x64(True):
        q, k, v, who = rows(150, dtype=np.float64)
        ours, theirs = both(q, k, v, who, who)
        assert all(x.dtype == np.float64 for x in ours)
        assert far(ours, theirs) < 1e-14


def test_bfloat16_is_rounded_once_at_the_end(monkeypatch):
    """Between chunks nothing is rounded to bfloat16: many chunks are as close to the plain form as one."""
    q, k, v, who = rows(600)
    q, k, v = (jnp.asarray(x, jnp.bfloat16) for x in (q, k, v))
    wide = [x.astype(jnp.float32) for x in (q, k, v)]
    theirs = both(*wide, who, who)[1]
    for chunk in (512, 64):
        monkeypatch.setattr(xla, "CPU_CHUNK", chunk)
        ours = both(q, k, v, who, who)[0]
        assert all(x.dtype == jnp.bfloat16 for x in ours)
        assert far([x.astype(jnp.float32) for x in ours], theirs) < 2e-2


def test_padding_gets_zeros_and_gives_zero_gradients(monkeypatch):
    monkeypatch.setattr(xla, "CHUNK", 64)
    q, k, v, who = rows(300)
    out, *gradients = both(q, k, v, who, who)[0]
    assert not np.asarray(out[1, :, :, 225:]).any()
    assert np.asarray(out[1, :, :, :225]).any()
    assert not np.asarray(gradients[0][1, :, :, 225:]).any()
    assert not any(np.asarray(x[1, :, 225:]).any() for x in gradients[1:])


def test_a_branch_sees_the_prefix_and_itself_only():
    # A drawing: row i, column j, x where i sees j. Segment 1 is a tree of prefix and two branches; then padding.
    who = sight(jnp.asarray([[1, 1, 1, 1, 1, 0]]), jnp.asarray([[0, 0, 1, 1, 2, 0]]))
    mask = visible(who, who)[0]
    drawing = ["".join("x" if seen else "." for seen in line) for line in np.asarray(mask)]
    assert drawing == ["x.....", "xx....", "xxx...", "xxxx..", "xx..x.", "......"]


def test_pairs_of_chunks_that_do_not_see_each_other_are_left_out():
    """A row of a tree (prefix of two chunks, three branches of one), another segment and padding, one chunk each."""
    segment = np.repeat([1, 1, 1, 1, 1, 2, 0], 64)[None]
    branch = np.repeat([0, 0, 1, 2, 3, 0, 0], 64)[None]
    chunks = xla._ids_in_chunks(sight(jnp.asarray(segment), jnp.asarray(branch)), 64)
    pairs = xla._pairs(chunks, chunks)
    met = {(int(i), int(j)) for i, j in zip(pairs.query[: pairs.count], pairs.key[: pairs.count], strict=True)}
    prefix = {(0, 0), (1, 0), (1, 1)}
    branches = {(i, j) for i in (2, 3, 4) for j in (0, 1, i)}
    assert met == prefix | branches | {(5, 5)}


def test_a_row_is_cut_finer_on_a_cpu():
    who = sight(jnp.ones((1, 1024), jnp.int32), jnp.zeros((1, 1024), jnp.int32))
    chunks = {"cpu": 1024 // 64, "tpu": 1024 // 128}
    for platform, count in chunks.items():
        assert xla.chunk_pairs(who, who, platform) == count * (count + 1) // 2


def test_a_long_rows_program_holds_no_square(monkeypatch):
    """The compiled gradient of a row of 4096 places has no array of 4096 x 4096, nor one that comes near it."""
    length = 4096
    x = jax.ShapeDtypeStruct((1, 1, 2, length, 8), jnp.float32)
    y = jax.ShapeDtypeStruct((1, 1, length, 8), jnp.float32)
    ids = jax.ShapeDtypeStruct((1, length), jnp.int32)

    def loss(q, k, v, segment, branch):
        who = sight(segment, branch)
        return jnp.sum(xla.tree_attention(q, k, v, who, who))

    text: Any = jax.jit(jax.grad(loss, (0, 1, 2))).lower(x, y, y, ids, ids).compile().as_text()
    sizes = [np.prod([int(n) for n in shape.split(",")]) for shape in re.findall(r"\[(\d+(?:,\d+)*)\]", text)]
    assert max(sizes) <= 2 * xla.CHUNK**2 < length**2 / 16
