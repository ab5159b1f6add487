"""tree_attention: the kernels for TPU against the specification, step by step on this machine."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.kernels.close import compare, drawn, exactly, in_float64, rounded, values_and_pulls
from vidlmm.kernels import KernelError, tree_attention
from vidlmm.kernels.tree_attention import reference
from vidlmm.kernels.tree_attention.launches import causal_meetings, launch_of, sizes_of
from vidlmm.kernels.tree_attention.meetings import FIRST, LAST, WHOLE, meetings
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


def _specified(queries: Ids, keys: Ids):
    return lambda q, k, v: reference.tree_attention(q, k, v, queries, keys)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("heads", "groups", "length", "depth", "block"),
    [
        (1, 7, 300, 64, None),  # 0.5B: one block, the odd rest of it filled up
        (2, 2, 517, 128, (128, 128)),  # several blocks of each
        (1, 3, 400, 72, (256, 128)),
        (2, 1, 300, 80, (128, 256)),
    ],
)
def test_values_and_gradients(heads, groups, length, depth, block, dtype):
    who = trees(length + depth, 2, length)
    arrays = rounded(_arrays(depth, 2, heads, groups, (length, length), depth), dtype)
    wanted = in_float64(_specified(who, who), exactly(arrays), 7)
    compare(values_and_pulls(_call(who, who, block=block, **INTERPRETED), arrays, 7), wanted, dtype)
