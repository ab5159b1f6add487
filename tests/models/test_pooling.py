"""Pooling: the second linear layer may run after it, and odd sides go as in PyTorch."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vidlmm.models import Connector
from vidlmm.models.pooling import pool
from vidlmm.spec import ConnectorSpec, SlowFastSpec, pooled_side
from vidlmm.spec.connector import PoolMode


@pytest.mark.parametrize("mode", ["average", "max", "bilinear"])
@pytest.mark.parametrize("side", [5, 6])
def test_tables_are_the_pooled_projections(mode: PoolMode, side: int):
    spec = ConnectorSpec(pool_mode=mode, slowfast=SlowFastSpec(), unpooled_images=True)
    connector = Connector(spec, 8, side**2, 12, rngs=nnx.Rngs(0))
    features = jnp.asarray(np.random.default_rng(0).standard_normal((3, side * side, 8)), jnp.float32)
    assert connector.fc2_bias is not None
    connector.fc2_bias[...] = jnp.arange(12.0)
    projected = connector.project(features)
    tables = connector(features)
    assert len(tables) == len(spec.strides) == 3
    for stride, table in zip(spec.strides, tables, strict=True):
        assert table.shape == (3 * pooled_side(side, mode, stride) ** 2, 12)
        np.testing.assert_allclose(table, pool(projected, mode, stride).reshape(-1, 12), atol=2e-5)


def test_average_drops_what_does_not_fill_a_window():
    grid = jnp.arange(9.0).reshape(1, 9, 1)
    assert pool(grid, "average", 2)[0, :, 0].tolist() == [2.0]
    assert pool(grid, "max", 2)[0, :, 0].tolist() == [4.0]
    # Three to two, bilinear: source coordinates 0.25 and 1.75 on both axes.
    np.testing.assert_allclose(pool(grid, "bilinear", 2)[0, :, 0], [1.0, 2.5, 5.5, 7.0], atol=1e-6)


def test_tokens_that_form_no_square_are_refused():
    with pytest.raises(ValueError, match="8 tokens do not form a square"):
        pool(jnp.zeros((1, 8, 2)), "average", 2)
