"""VideoLLaMA 2's connector on meshes of eight simulated devices beside one; prints JSON.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.parallel.clips
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.parallel.mixes import distances, name
from vidlmm.models.sharding import placed
from vidlmm.models.stc import STC
from vidlmm.parallel import Rules, make_mesh
from vidlmm.spec.stc import STCSpec

# The last can split neither three clips nor, over both axes, a width of twelve.
MESHES = [
    ({"data": 2, "fsdp": 2, "tensor": 2}, 4, 16),
    ({"fsdp": 4, "context": 2}, 4, 16),
    ({"fsdp": 2, "tensor": 4}, 3, 12),
]


def gradients(rules: Rules | None, clips: int, width: int) -> dict[str, np.ndarray]:
    """What a connector gives for clips of two lengths, and the gradients of its parameters and of the features."""
    model = nnx.jit(lambda: STC(STCSpec(depth=1), width, width, rngs=nnx.Rngs(3)))()
    graph, params = nnx.split(model)
    x, pull = (np.random.default_rng(n).normal(size=(clips, 4, 9, width)).astype(np.float32) for n in range(2))
    length = jnp.asarray([4] * (clips - 1) + [3])

    def loss(params: Any, x: Any) -> Any:
        with placed(rules):
            out = nnx.merge(graph, params)(x, length)
        return jnp.sum(out[:, :8] * pull.reshape(clips, -1, width)[:, :8]), out[:, :8]

    (_, out), (of_params, of_x) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(params, x)
    named = {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(of_params)}
    return {key: np.asarray(one) for key, one in (named | {"rows": out, "features": of_x}).items()}


if __name__ == "__main__":
    found = {}
    for sizes, clips, width in MESHES:
        rules = Rules(make_mesh(sizes), groups=1)
        found[name(sizes)] = distances(gradients(rules, clips, width), gradients(None, clips, width))
    print(json.dumps(found))
