"""The attention of rows: block by block, chunk by chunk, and against the plain form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidlmm.models import attention


def plain(q, k, v, segment, branch):
    """The rule written out for every pair."""
    length = q.shape[3]
    i, j = np.arange(length)[:, None], np.arange(length)[None]
    same = (segment[:, :, None] == segment[:, None]) & (segment[:, :, None] != 0)
    mask = (j <= i) & same & ((branch[:, None] == 0) | (branch[:, :, None] == branch[:, None]))
    scores = jnp.einsum("bkgqd,bksd->bkgqs", q, k) / np.sqrt(q.shape[-1])
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], scores, -jnp.inf), axis=-1)
    return jnp.einsum("bkgqs,bksd->bkgqd", weights, v)


def rows(length: int, depth: int = 8):
    rng = np.random.default_rng(length)
    q = rng.standard_normal((2, 2, 3, length, depth)).astype(np.float32)
    k, v = (rng.standard_normal((2, 2, length, depth)).astype(np.float32) for _ in range(2))
    segment = np.ones((2, length), np.int32)
    segment[0, length // 3 :] = 2
    segment[1, length - 5 :] = 0
    branch = np.zeros((2, length), np.int32)
    branch[0, length // 2 : 2 * length // 3] = 1
    branch[0, 2 * length // 3 :] = 2
    return q, k, v, segment, branch


@pytest.mark.parametrize(("length", "long"), [(50, 2048), (150, 2048), (600, 2048), (600, 100)])
def test_values_and_gradients_are_those_of_the_plain_form(length: int, long: int, monkeypatch):
    monkeypatch.setattr(attention, "LONG", long)
    q, k, v, segment, branch = rows(length)
    pull = np.random.default_rng(1).standard_normal(q.shape).astype(np.float32)

    def ours(q, k, v):
        who = attention.sight(jnp.asarray(segment), jnp.asarray(branch))
        assert isinstance(who, attention.Ids if length > long else attention.Masks)
        return jnp.sum(attention.attend_rows(q, k, v, who) * pull)

    # In the reference padding is a segment of its own, so that its softmax is finite, and its output is dropped.
    filled, kept = np.where(segment == 0, 3, segment), segment[:, None, None, :, None] != 0

    def reference(q, k, v):
        return jnp.sum(plain(q, k, v, filled, branch) * pull * kept)

    value, grads = jax.jit(jax.value_and_grad(ours, (0, 1, 2)))(q, k, v)
    wanted, expected = jax.jit(jax.value_and_grad(reference, (0, 1, 2)))(q, k, v)
    assert abs(value - wanted) < 1e-2
    for ours_, theirs in zip(grads, expected, strict=True):
        np.testing.assert_allclose(ours_, theirs, atol=2e-5)


def test_padding_gets_zeros():
    q, k, v, segment, branch = rows(40)
    q, k, v = (jnp.asarray(x) for x in (q, k, v))
    out = attention.attend_rows(q, k, v, attention.sight(jnp.asarray(segment), jnp.asarray(branch)))
    assert not np.asarray(out[1, :, :, -5:]).any()
    assert np.asarray(out[1, :, :, :-5]).any()


def test_a_branch_sees_the_prefix_and_itself_only():
    # A drawing: row i, column j, x where i sees j. Segment 1 is a tree of prefix and two branches; then padding.
    segment, branch = jnp.asarray([[1, 1, 1, 1, 1, 0]]), jnp.asarray([[0, 0, 1, 1, 2, 0]])
    mask = attention.visible(segment, branch, 0, 6, 6)[0]
    drawing = ["".join("x" if seen else "." for seen in line) for line in np.asarray(mask)]
    assert drawing == ["x.....", "xx....", "xxx...", "xxxx..", "xx..x.", "......"]
