"""What each kernel is compiled for: TPUs that the compiler knows and this machine need not have."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vidlmm.kernels.grids import pooled_side
from vidlmm.kernels.project_pool import project_pool
from vidlmm.kernels.slowfast_pool import slowfast_pool
from vidlmm.kernels.slowfast_pool.rows import Rows
from vidlmm.kernels.specs import ClipSpec, PoolSpec, SpliceSpec, splice_plan
from vidlmm.kernels.splice import splice
from vidlmm.kernels.temporal_pool import temporal_pool

NAMES = {"v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2", "7x": "tpu7x:2x2x1"}
ALONE = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "TPU_MIN_LOG_LEVEL": "3"}


class Case(NamedTuple):
    """A call, the shapes of all devices together, and how a 2 x 2 mesh splits them; the last is the result's."""

    call: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    splits: tuple[P, ...]


def mesh(target: str) -> Mesh:
    """2 x 2 devices; 7x shows two devices a chip, of which four are taken."""
    for name, value in ALONE.items():
        os.environ.setdefault(name, value)
    found = topologies.get_topology_desc(platform="tpu", topology_name=NAMES[target])
    return Mesh(np.asarray(found.devices[:4]).reshape(2, 2), ("data", "model"))


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


def lowered(case: Case, mesh: Mesh) -> Any:
    """The program of a call on the parts that each device holds, with the gradients of all devices together."""
    function = jax.shard_map(
        case.call, mesh=mesh, in_specs=case.splits[:-1], out_specs=case.splits[-1], check_vma=False
    )

    def both(*arrays: Any) -> Any:
        out, back = jax.vjp(function, *arrays[:-1])
        return out, back(arrays[-1])

    arrays = [
        jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=NamedSharding(mesh, split))
        for shape, split in zip(case.shapes, case.splits, strict=True)
    ]
    return jax.jit(both).lower(*arrays)
