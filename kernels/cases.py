"""What each kernel is compiled for: TPUs and a GPU that the compilers know and this machine need not have."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vidlmm.kernels.choice import Named, compiling_for
from vidlmm.kernels.depthwise_norm import depthwise_norm
from vidlmm.kernels.grids import pooled_side
from vidlmm.kernels.project_pool import project_pool
from vidlmm.kernels.slowfast_pool import slowfast_pool
from vidlmm.kernels.slowfast_pool.rows import Rows
from vidlmm.kernels.specs import (
    ATTENDED,
    POOLS,
    ROWS,
    SPLICES,
    STAGES,
    STC,
    TEMPORAL,
    AttendSpec,
    ClipSpec,
    PoolSpec,
    RowSpec,
    SpliceSpec,
    StageSpec,
    StcSpec,
    splice_plan,
)
from vidlmm.kernels.splice import splice
from vidlmm.kernels.stc_downsample import stc_downsample
from vidlmm.kernels.stc_downsample.windows import Windows
from vidlmm.kernels.temporal_pool import temporal_attend, temporal_pool
from vidlmm.kernels.tree_attention import tree_attention
from vidlmm.kernels.tree_attention.rule import Ids, sight

NAMES = {"v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2", "7x": "tpu7x:2x2x1"}
# An H100 in the words of XLA's description of a GPU.
H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  registers_per_block_limit: 65536 registers_per_core_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 device_memory_size: 84942979072 l2_cache_size: 52428800
}
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 8 }
"""
ALONE = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "TPU_MIN_LOG_LEVEL": "3"}


class Case(NamedTuple):
    """A call, the shapes of all devices together, and how a 2 x 2 mesh splits them; the last ones are the results'."""

    call: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    splits: tuple[P, ...]
    results: int = 1


def mesh(target: str) -> Mesh:
    """2 x 2 devices; 7x shows two devices a chip, of which four are taken."""
    for name, value in ALONE.items():
        os.environ.setdefault(name, value)
    found = topologies.get_topology_desc(platform="tpu", topology_name=NAMES[target])
    return Mesh(np.asarray(found.devices[:4]).reshape(2, 2), ("data", "model"))


def gpu() -> Any:
    """A single H100."""
    # The description stands for the device only where the topology has a shape.
    found = topologies.get_topology_desc("h100", platform="cuda", target_config=H100, topology="1x1x1")
    return found.devices[0]


def project_case(spec: PoolSpec, **options: Any) -> Case:
    """Frames on one axis of the mesh, hidden columns on the other. A single frame is on both."""
    call = partial(project_pool, mode=spec.mode, stride=spec.stride, activation=spec.activation, **options)
    frames = "data" if spec.frames > 1 else None
    cells = pooled_side(spec.side, spec.mode, spec.stride) ** 2
    shapes = (
        (spec.frames, spec.side**2, spec.features),
        (spec.features, spec.width),
        (spec.width,),
        (spec.frames, cells, spec.width),
    )
    return Case(call, shapes, (P(frames), P(None, "model"), P("model"), P(frames, None, "model")))


def slowfast_case(spec: PoolSpec, **options: Any) -> Case:
    """Two videos on one axis, columns on the other."""

    def one(x: Any, newline: Any, faster: Any) -> Any:
        return slowfast_pool(
            x,
            newline if spec.newline else None,
            faster if spec.every else None,
            mode=spec.mode,
            stride=spec.stride,
            every=spec.every,
            **options,
        )

    rows = Rows(spec.side, spec.mode, spec.stride, spec.every, spec.newline, spec.every > 0).of(spec.frames)
    shapes = ((2, spec.frames, spec.side**2, spec.width), (spec.width,), (spec.width,), (2, rows, spec.width))
    splits = (P("data", None, None, "model"), P("model"), P("model"), P("data", None, "model"))
    return Case(jax.vmap(one, (0, None, None)), shapes, splits)


def temporal_case(spec: ClipSpec, **options: Any) -> Case:
    """A clip a device and more: its score needs the whole width."""
    spec = replace(spec, clips=max(spec.clips, 4))
    cells, both = spec.side**2, P(("data", "model"))

    def call(x: Any, *layer: Any) -> Any:
        length = jnp.full(x.shape[0], spec.frames, jnp.int32)
        return temporal_pool(x, length, *layer, variant=spec.variant, **options)

    layer = ((cells, spec.width), (1,)) if spec.variant == "v2" else ()
    shapes = ((spec.clips, spec.frames, 1 + cells, spec.width), *layer, (spec.clips, cells, spec.width))
    return Case(call, shapes, (both, *[P()] * len(layer), both))


def attend_case(spec: AttendSpec, **options: Any) -> Case:
    """Clips on one axis of the mesh, heads on the other."""
    rows, clips, both = 1 + spec.side**2, P("data"), P("data", "model")

    def call(x: Any, position: Any, ask: Any) -> Any:
        return temporal_attend(x, jnp.full(x.shape[0], spec.frames, jnp.int32), position, ask, **options)

    x, asked = (spec.clips, spec.frames, rows, spec.width), (spec.clips, spec.heads, rows, spec.width)
    shapes = (x, (spec.frames, spec.width), asked, asked, (spec.clips, rows, spec.width))
    return Case(call, shapes, (clips, P(), both, both, clips), 2)


def attention_case(spec: RowSpec, **options: Any) -> Case:
    """A row a device and more. Key heads on the other axis, or the places of the queries."""

    def call(q: Any, k: Any, v: Any) -> Any:
        # One segment and padding, which only the running program knows.
        segment = jnp.broadcast_to((k[:, 0, :, 0] < jnp.inf).astype(jnp.int32), (k.shape[0], k.shape[2]))
        keys = sight(segment, jnp.zeros_like(segment))
        queries = Ids(*(ids[:, k.shape[2] - q.shape[3] :] for ids in keys))
        return tree_attention(q, k, v, queries, keys, **options)

    of_q = (2, spec.heads, spec.groups, spec.length, spec.depth)
    of_k = (2, spec.heads, spec.length, spec.depth)
    q, k = P("data", "model"), P("data", "model")
    if spec.parts > 1:
        q, k = P("data", None, None, "model"), P("data")
    return Case(call, (of_q, of_k, of_k, of_q), (q, k, k, q))


def stc_case(spec: StcSpec, **options: Any) -> Case:
    """Clips on one axis of the mesh, columns of the output on the other. A single clip is on both."""
    windows, clips = Windows(spec.frames, spec.side, spec.padding), "data" if spec.clips > 1 else None
    shapes = (
        (spec.clips, spec.frames, spec.side**2, spec.width),
        (2, 2, 2, spec.width, spec.width),
        (spec.width,),
        (spec.clips, windows.steps, windows.cells, spec.width),
    )
    splits = (P(clips), P(None, None, None, None, "model"), P("model"), P(clips, None, None, "model"))
    return Case(partial(stc_downsample, padding=spec.padding, **options), shapes, splits)


def stage_case(spec: StageSpec, **options: Any) -> Case:
    """Pictures over all devices: a norm needs all channels."""
    both, width = P(("data", "model")), (spec.width,)
    picture = (spec.frames, spec.side**2, spec.width)
    call = partial(depthwise_norm, line=spec.side, **options)
    return Case(call, (picture, (3, 3, *width), width, width, picture), (both, P(), P(), P(), both))


def splice_case(spec: SpliceSpec, sequences: int = 2, **options: Any) -> Case:
    """Sequences with media of their own on one axis, columns on the other."""
    plan = splice_plan(spec, 0)

    def call(*tables: Any) -> Any:
        # No constant, or the compiler would do what a step has to do with its plan.
        table, row = jax.lax.optimization_barrier(tuple(map(jnp.asarray, plan)))
        return splice(table, row, tables, **options)

    own = tuple((sequences * rows, spec.width) for rows in (*spec.media, spec.places))
    shapes = ((spec.vocab, spec.width), (spec.special, spec.width), *own)
    return Case(call, shapes, (P(None, "model"), P(None, "model"), *[P("data", "model")] * len(own)))


def every_case(backend: Named) -> dict[str, Case]:
    """All kernels at the real shapes of the systems, as "kernel-shape"."""
    made: dict[str, tuple[Callable[..., Case], Sequence[Any]]] = {
        "project_pool": (project_case, POOLS),
        "slowfast_pool": (slowfast_case, POOLS),
        # Of one sequence where no mesh splits them.
        "splice": (partial(splice_case, sequences=2 if backend == "tpu" else 1), SPLICES),
        "temporal_pool": (temporal_case, TEMPORAL),
        "temporal_attend": (attend_case, ATTENDED),
        "tree_attention": (attention_case, ROWS),
        "stc_downsample": (stc_case, STC),
        "depthwise_norm": (stage_case, STAGES),
    }
    return {
        f"{kernel}-{spec.name}": case(spec, backend=backend) for kernel, (case, specs) in made.items() for spec in specs
    }


def lowered(case: Case, mesh: Mesh) -> Any:
    """The program of a call on the parts that each device holds, with the gradients of all devices together."""
    outs = case.splits[-1] if case.results == 1 else case.splits[-case.results :]
    specs = {"in_specs": case.splits[: -case.results], "out_specs": outs}
    function = jax.shard_map(case.call, mesh=mesh, check_vma=False, **specs)

    arrays = [
        jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=NamedSharding(mesh, split))
        for shape, split in zip(case.shapes, case.splits, strict=True)
    ]
    with compiling_for(mesh.devices.flat[0]):
        return jax.jit(both_directions(function, case.results)).lower(*arrays)


def both_directions(function: Callable[..., Any], results: int = 1) -> Callable[..., Any]:
    """Of the arguments and the pulls on the results: the results and the gradients."""

    def both(*arrays: Any) -> Any:
        out, back = jax.vjp(function, *arrays[:-results])
        return out, back(arrays[-1] if results == 1 else arrays[-results:])

    return both
