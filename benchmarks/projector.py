"""What it saves to run the projector's second layer on pooled tokens, where pooling allows it.

    python benchmarks/projector.py

Average and bilinear pooling take means with weights that sum to one, so the second linear layer of mlp2x_gelu gives
the same after pooling as before (`vidlmm/models/connector.py`). Both orders are compiled for 8 frames of 27 x 27
patches; FLOPs are the compiler's count, times are medians of calls that alternate.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vidlmm.models import Connector
from vidlmm.models.pooling import pool
from vidlmm.spec import SYSTEMS

FRAMES, REPEATS = 8, 7
RESULTS = Path(__file__).parent / "results" / "projector.json"


def compare(name: str) -> dict[str, Any]:
    """FLOPs and seconds of both orders at the sizes of a system."""
    spec = SYSTEMS[name]
    patches, width = (spec.tower.image_size // spec.tower.patch_size) ** 2, spec.tower.width
    connector = Connector(spec.connector, width, patches, spec.decoder.width, rngs=nnx.Rngs(0))
    graph, params = nnx.split(connector)
    mode, stride = spec.connector.pool_mode, spec.connector.pool_stride

    def pooled_first(params: Any, features: jax.Array) -> jax.Array:
        return nnx.merge(graph, params)(features)[0]

    def projected_first(params: Any, features: jax.Array) -> jax.Array:
        found = pool(nnx.merge(graph, params).project(features), mode, stride)
        return found.reshape(-1, found.shape[-1])

    features = jnp.asarray(np.random.default_rng(0).standard_normal((FRAMES, patches, width)), jnp.float32)
    orders: dict[str, Callable] = {"projected first": projected_first, "pooled first": pooled_first}
    compiled = {order: jax.jit(call).lower(params, features).compile() for order, call in orders.items()}
    results = {order: program(params, features) for order, program in compiled.items()}
    seconds: dict[str, list[float]] = {order: [] for order in orders}
    for _ in range(REPEATS):
        for order, program in compiled.items():
            began = time.perf_counter()
            jax.block_until_ready(program(params, features))
            seconds[order].append(time.perf_counter() - began)
    flops = {order: program.cost_analysis()["flops"] for order, program in compiled.items()}
    medians = {order: statistics.median(times) for order, times in seconds.items()}
    return {
        "system": name,
        "pooling": f"{mode} {stride}",
        "gflops": {order: round(value / 1e9, 1) for order, value in flops.items()},
        "saved_flops": round(1 - flops["pooled first"] / flops["projected first"], 3),
        "seconds": {order: round(value, 3) for order, value in medians.items()},
        "saved_time": round(1 - medians["pooled first"] / medians["projected first"], 3),
        "largest_difference": float(jnp.abs(results["pooled first"] - results["projected first"]).max()),
    }


def main() -> int:
    """Compare at the released sizes, print and write the results."""
    rows = [compare(name) for name in ("llava_onevision_05b", "llava_onevision_7b")]
    for row in rows:
        flops, seconds = row["gflops"], row["seconds"]
        print(
            f"{row['system']:20} {flops['projected first']:6.1f} -> {flops['pooled first']:6.1f} GFLOP "
            f"({row['saved_flops']:.0%} less)   {seconds['projected first']:.3f} -> {seconds['pooled first']:.3f} s "
            f"({row['saved_time']:.0%} less)   largest difference {row['largest_difference']:.1e}"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"frames": FRAMES, "rows": rows, "jax": jax.__version__}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
