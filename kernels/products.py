"""Matrix products inside a kernel: float32 sums; float32 inputs are not rounded to bfloat16."""

from typing import Any

import jax
import jax.numpy as jnp


def dot(a: Any, b: Any, over: tuple[int, int] = (1, 0)) -> Any:
    """a times b, summed over one axis of each; float64 sums of float64."""
    exact = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    kind = jnp.promote_types(a.dtype, jnp.float32)
    axes = (((over[0],), (over[1],)), ((), ()))
    return jax.lax.dot_general(a, b, axes, precision=exact, preferred_element_type=kind)


def pool_rows(pooling: Any, rows: Any) -> Any:
    """Cells of one frame. pooling: a ref [K, P, N]; rows: [N, d]; the result is float32."""
    found = dot(pooling[0], rows)
    for k in range(1, pooling.shape[0]):
        found = jnp.maximum(found, dot(pooling[k], rows))
    return found


def unpool_rows(pooling: Any, pull: Any, rows: Any) -> Any:
    """What a pull on the cells [P, d] does to the rows [N, d]; among equal largest rows it is shared."""
    if pooling.shape[0] == 1:
        return dot(pooling[0], pull, (0, 0))
    picked = [dot(pooling[k], rows) for k in range(pooling.shape[0])]
    top = picked[0]
    for one in picked[1:]:
        top = jnp.maximum(top, one)
    largest = [(one == top).astype(jnp.float32) for one in picked]
    share = pull.astype(jnp.float32) / sum(largest)
    return sum(dot(pooling[k], (share * here).astype(rows.dtype), (0, 0)) for k, here in enumerate(largest))
