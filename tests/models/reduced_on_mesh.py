"""Kernels on the parts of four simulated devices beside plain JAX on one; prints the largest relative differences.

XLA_FLAGS=--xla_force_host_platform_device_count=4 python -m tests.models.reduced_on_mesh
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np

from vidlmm.kernels import splice
from vidlmm.models import merge
from vidlmm.models.reduced import attended_over_time, pooled_over_time, projected_cells
from vidlmm.models.sharding import placed
from vidlmm.parallel import Rules, make_mesh


def values_and_gradients(function: Callable[..., Any], rules: Rules | None, arrays: list[Any]) -> list[np.ndarray]:
    def both(*arrays: Any) -> Any:
        out, back = jax.vjp(function, *arrays)
        return out, back(jnp.sin(out))

    with placed(rules):
        out, pulls = jax.jit(both)(*arrays)
    return [np.asarray(x) for x in (out, *pulls)]


def main() -> None:
    rng = np.random.default_rng(0)
    rules, places = Rules(make_mesh({"data": 2, "tensor": 2}), 4), Rules(make_mesh({"data": 2, "context": 2}), 2)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    def cells(backend: Any) -> Callable[..., Any]:
        return lambda x, *layer: projected_cells(x, layer[0], layer[1], "average", 2, "gelu", backend, backend == "tpu")

    def clips(backend: Any) -> Callable[..., Any]:
        length = jnp.asarray([3, 1, 2, 3])
        return lambda x, *layer: pooled_over_time(x, length, *layer, backend=backend, interpret=backend == "tpu")

    def asked(backend: Any) -> Callable[..., Any]:
        def call(x: Any, ask: Any) -> Any:
            length, options = jnp.asarray([3, 1, 2, 3]), {"backend": backend, "interpret": backend == "tpu"}
            weighted, mean = attended_over_time(x, length, position, ask, **options)
            return jnp.concatenate([weighted, mean[:, None]], axis=1)

        return call

    position, questions = draw(3, 128), [draw(4, 3, 5, 128), draw(4, 4, 5, 128) / 128**0.5]
    projector = [draw(4, 25, 8), draw(8, 256), draw(256)]
    scored = [draw(4, 3, 5, 128), draw(4, 128) / 512**0.5, draw(1)]
    plan = [jnp.asarray(rng.integers(low, high, (4, 6)), jnp.int32) for low, high in ((0, 5), (0, 3))]

    def merged(backend: Any) -> Callable[..., Any]:
        def call(text: Any, special: Any, *visual: Any) -> Any:
            with (
                patch.object(merge, "backend_of", lambda _: backend),
                patch.object(merge, "splice", partial(splice, interpret=backend == "tpu")),
            ):
                return merge.gather_rows(plan[0], plan[1], text, special, visual, groups=2)

        return call

    cases: list[tuple[str, Any, list[jax.Array], Rules]] = [
        ("cells", cells, projector, rules),
        ("mean", clips, scored[:1], rules),
        ("scores", clips, scored, rules),
        ("asked", asked, questions, rules),
        ("merge", merged, [draw(4, 128), draw(3, 128), draw(6, 128), draw(8, 128)], places),
    ]
    found = {}
    for name, make, arrays, where in cases:
        wanted = values_and_gradients(make("xla"), None, arrays)
        pairs = zip(values_and_gradients(make("tpu"), where, arrays), wanted, strict=True)
        found[name] = [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs]
    # The bias moves all scores alike: it has no gradient but rounding.
    found["scores"].pop()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
