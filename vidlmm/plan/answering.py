"""What answering takes: a clip encoded, its prompt read up to the end of the clip and from there on, a token of all
slots written, by the engine's own programs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vidlmm.checkpoint.run import video_lm_skeleton
from vidlmm.generate import programs
from vidlmm.generate.engine import PIECES, SHORTEST
from vidlmm.generate.reading import SHORTEST_REST
from vidlmm.layout import item_plan
from vidlmm.layout.buckets import choose, ladder
from vidlmm.models.sharding import placed
from vidlmm.parallel import Rules, make_mesh, param_shardings, replicated
from vidlmm.plan.cache import digest
from vidlmm.plan.child import Job
from vidlmm.plan.compiler import Traced, compile_apart, compile_here, per_device
from vidlmm.plan.devices import Target
from vidlmm.plan.loops import Loops, prompt_loops
from vidlmm.plan.make import Say, flow_of
from vidlmm.plan.workload import Workload

SLOTS, ROOM, TEXT = 8, 256, 250
ENCODE, READ, EXTEND, WRITE = "encode", "read", "extend", "write"


@dataclass(frozen=True)
class Setting:
    """How the model stands on the devices, and what it answers.

    length: places of the prompt's bucket. shown, rest: of those of what it shows and of the text behind that; 0 where
        it is read as one. frames: of the clip, 0 where frames are not encoded in pieces.
    """

    mesh: Mesh
    tensor: int
    length: int
    shown: int
    rest: int
    frames: int

    @property
    def named(self) -> dict[str, tuple[str, int, Loops]]:
        """Program by what it does: its name, how often a clip runs it, and its loops."""
        platform = self.mesh.devices.flat[0].platform
        found = {"read the prompt": (READ, 1, prompt_loops(self.length, platform))}
        if self.rest:
            found = {
                "read what is shown": (READ, 1, prompt_loops(self.shown, platform)),
                "read the text behind it": (EXTEND, 1, prompt_loops(self.rest, platform, self.shown)),
            }
        if self.frames:
            pieces = -(-self.frames // PIECES[-1])
            found = {f"encode {self.frames} frames": (ENCODE, pieces, prompt_loops(1, platform)), **found}
        return found | {"write a token in each slot": (WRITE, 1, Loops(1, 1))}


def answering(work: Workload, target: Target, say: Say, *, whole: bool = False) -> dict[str, Any]:
    """Memory and the least time of each program of generation, in bfloat16.

    The model is split over as many devices as divide its key heads; the other devices hold further copies of it.
    """
    setting = setting_of(work, target)
    found: dict[str, Any] = {
        "setting": f"one clip, a prompt of {setting.length:,} places, {SLOTS} slots of {ROOM} tokens, bfloat16, the "
        f"model over {setting.tensor} of the {len(target.devices)} devices"
    }
    for name, (program, times, loops) in setting.named.items():
        say(f"compiling for {target.about}: {name}")
        if target.is_tpu:
            job = Job(f"{__name__}:trace", work, target.name, program)
            _, done = compile_apart(job, whole=whole, wanted=lambda _: True)
        else:
            lowered, traced = trace(work, target, program)
            done = compile_here(lowered, traced.held)
        if done is None:
            continue
        found[name] = {"memory": done.memory.total, "fits": done.memory.fits, "seconds": 0.0, "bound": ""}
        if done.module is not None:
            flow = flow_of(done.module, loops, setting.mesh, target)
            found[name] |= {"seconds": times * flow.slowest, "bound": flow.bound}
    return found


def setting_of(work: Workload, target: Target) -> Setting:
    """The model over as many devices as divide its key heads, and one clip's prompt."""
    spec, shown, longest = work.spec, work.shown, work.spec.decoder.max_length
    tensor = math.gcd(spec.decoder.kv_heads, len(target.devices) // target.slices)
    mesh = make_mesh({"tensor": tensor, "data": -1, "slice": target.slices}, target.devices)
    seen = len(item_plan(shown, spec)) if shown else 0
    lengths, rests = (ladder(min(least, longest), longest) for least in (SHORTEST, SHORTEST_REST))
    length = choose(min(seen + TEXT, longest), lengths)
    parts = (choose(min(seen, longest), lengths), choose(min(TEXT, longest), rests)) if seen else (0, 0)
    alone = spec.connector.temporal == "none" and spec.connector.stc is None
    frames = shown.frames if shown is not None and shown.kind == "video" and alone else 0
    return Setting(mesh, tensor, length, *parts, frames)


def trace(work: Workload, target: Target, what: str) -> tuple[Any, Traced]:
    """One of the programs, ready for the compiler, and what is known of it before."""
    setting = setting_of(work, target)
    mesh, spec = setting.mesh, work.spec
    skeleton = video_lm_skeleton(spec, jnp.bfloat16, jnp.bfloat16)
    where = param_shardings(mesh, skeleton.shapes, skeleton.axes)
    params: Any = {n: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where[n]) for n, s in skeleton.shapes.items()}
    graph, state = nnx.split(skeleton.model(params))
    with placed(Rules(mesh)):
        lowered = _lower(what, work, setting, graph, state)
    return lowered, Traced(digest(lowered.as_text()), {"parameters": per_device(params)}, {})


def _lower(what: str, work: Workload, setting: Setting, graph: Any, state: Any) -> Any:
    spec, mesh = work.spec, setting.mesh
    everywhere = replicated(mesh)

    def array(shape: tuple[int, ...], kind: Any) -> Any:
        return jax.ShapeDtypeStruct(shape, kind, sharding=everywhere)

    if what == ENCODE:
        side = spec.pixels.size
        return programs.encode.lower(graph, state, array((PIECES[-1], side, side, 3), np.uint8))
    vocab, scalar = spec.decoder.vocab, array((), np.int32)
    if what == READ:
        embeds = array((1, setting.shown or setting.length, spec.decoder.width), jnp.bfloat16)
        return programs.read.lower(graph, state, embeds, scalar, vocab=vocab)
    if what == EXTEND:
        cache = jax.eval_shape(lambda params: nnx.merge(graph, params).decoder.init_cache(1, setting.shown), state)
        reading = programs.Reading(_lying(cache, mesh), array((1, vocab), jnp.float32))
        return programs.extend.lower(graph, state, reading, array((setting.rest,), np.int32), scalar, vocab=vocab)
    sizes: Mapping[str, int] = {"slots": SLOTS, "capacity": setting.length + ROOM, "room": ROOM, "choices": 0}
    slots = _lying(jax.eval_shape(lambda params: programs.empty(graph, params, **sizes), state), mesh)
    draw = programs.Draw(array((), np.uint32), array((), np.float32), array((), np.float32), array((2,), np.int32))
    return programs.advance.lower(graph, state, slots, array((SLOTS,), bool), scalar, draw, vocab=vocab)


def _lying(shapes: Any, mesh: Mesh) -> Any:
    """Keys and values split by their heads, the rest whole everywhere."""
    heads = NamedSharding(mesh, PartitionSpec(None, None, "tensor"))

    def place(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=heads if leaf.ndim == 5 else replicated(mesh))

    return jax.tree.map(place, shapes)
