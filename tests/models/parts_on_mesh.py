"""Prints how far rows read in two parts on eight devices are from those of one device, for each mesh."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.models.tiny import SPEC, tiny_model
from vidlmm.models.sharding import placed
from vidlmm.parallel import Rules, make_mesh

ROWS, BEGUN, REST = 4, 16, 8


def main() -> None:
    graph, params = nnx.split(tiny_model().decoder)
    shape = (ROWS, BEGUN + REST, SPEC.decoder.width)
    embeds = jnp.asarray(np.random.default_rng(0).normal(scale=0.3, size=shape), jnp.float32)
    position = jnp.broadcast_to(jnp.arange(shape[1], dtype=jnp.int32), shape[:2])

    def read():
        """Compiled anew for each mesh."""

        def both(params, embeds):
            decoder, here = nnx.merge(graph, params), jnp.ones_like(position)
            first, rest = slice(BEGUN), slice(BEGUN, None)
            cache = decoder.init_cache(ROWS, BEGUN)
            _, cache = decoder.prefill(embeds[:, first], position[:, first], here[:, first], cache)
            return decoder.extend(embeds[:, rest], position[:, rest], here[:, rest], cache)

        return jax.jit(both)(params, embeds)

    alone, found = read(), {}
    # Rows and heads; places as far as they divide: 8 queries and 24 keys are split, by 8 or by 2.
    for sizes in ({"data": 2, "context": 2, "tensor": 2}, {"context": 8}, {"fsdp": 4, "tensor": 2}):
        with placed(Rules(make_mesh({"data": 1, **sizes}))):
            apart = jax.tree.map(lambda one, other: float(np.abs(one - other).max()), read(), alone)
        found[str(sizes)] = max(jax.tree.leaves(apart))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
