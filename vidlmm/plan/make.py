"""A workload and a target into a plan."""

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vidlmm.checkpoint.run import video_lm_skeleton
from vidlmm.models.flops import model_flops
from vidlmm.parallel import batch_shardings, make_mesh, replicated
from vidlmm.plan.arithmetic import counts_of
from vidlmm.plan.cache import Cache, digest
from vidlmm.plan.child import Job
from vidlmm.plan.collectives import find_collectives
from vidlmm.plan.compiler import Traced, compile_apart, compile_here, per_device
from vidlmm.plan.data import rates_of
from vidlmm.plan.devices import Target, compiler_version
from vidlmm.plan.errors import PlanError
from vidlmm.plan.hlo import Module
from vidlmm.plan.loops import Loops, loops_of
from vidlmm.plan.products import flops
from vidlmm.plan.result import Flow, Plan, Told, from_dict
from vidlmm.plan.roofline import roofline
from vidlmm.plan.runs import count_runs
from vidlmm.plan.traffic import bytes_moved
from vidlmm.plan.workload import Workload, batch_arrays
from vidlmm.train.program import StageProgram, stage_program
from vidlmm.train.setup import dtype_of
from vidlmm.train.step import lower_step

Say = Callable[[str], None]


def make_plan(work: Workload, target: Target, cache: Cache, say: Say, samples: int = 0, *, whole: bool = False) -> Plan:
    """Compile the stage's own step for the target and read what it became. Nothing of the weights is made.

    Args:
        cache: where plans of the same program are found. say: takes a line on what is going on.
        samples: of the recipe's data, for the hours; 0 takes what is known of it.
        whole: let the TPU compiler make machine code, too, which tells nothing more.

    Raises:
        PlanError: what a run would raise as well, in its words.
    """
    loops, versions = loops_of(work, target.devices[0].platform), versions_of(target)

    def find(traced: Traced) -> dict[str, Any] | None:
        return cache.find(cache.key(traced.text, target.name, versions, repr(loops)))

    say(f"tracing the step of {work.config}, stage {work.stage.name}")
    if target.is_tpu:

        def wanted(traced: Traced) -> bool:
            missing = find(traced) is None
            say(f"compiling for {target.about}" if missing else "compiled before")
            return missing

        traced, done = compile_apart(Job(f"{__name__}:trace", work, target.name), whole=whole, wanted=wanted)
    else:
        lowered, traced = trace(work, target)
        done = compile_here(lowered, traced.held) if find(traced) is None else None
    if done is None:
        kept = find(traced)
        if kept is None:
            raise PlanError("a plan that was kept is gone; plan again")
        return _with_rates(from_dict(kept), work, target, samples)
    mesh = make_mesh(work.mesh, target.devices)
    plan = Plan(
        config=work.config,
        stage=work.stage.name,
        system=work.spec.name,
        topology=target.name,
        about=target.about,
        chips=target.chips,
        devices=len(target.devices),
        mesh={axis: size for axis, size in mesh.shape.items() if size > 1},
        batch={name: getattr(work.stage, name) for name in ("rows", "length", "frames", "groups")},
        remat=work.settings["remat"],
        memory=done.memory,
        hbm=0.0 if target.chip is None else target.chip.hbm_bytes,
        model_flops=traced.parts,
        flow=None if done.module is None else flow_of(done.module, loops, mesh, target),
        rates=None,
        notes=work.notes,
        versions=versions,
        compile_seconds=round(done.seconds, 1),
    )
    cache.keep(cache.key(traced.text, target.name, versions, repr(loops)), plan)
    return _with_rates(plan, work, target, samples)


def trace(work: Workload, target: Target, what: str = "") -> tuple[Any, Traced]:
    """The stage's step, ready for the compiler, and what is known of it before."""
    mesh = make_mesh(work.mesh, target.devices)
    program = step_program(work, mesh)
    arrays = batch_arrays(work)
    lowered, held = lower(program, arrays, mesh)
    shapes, axes = program.skeleton.shapes, program.skeleton.axes
    found = model_flops(work.spec, counts_of(work, arrays), shapes, axes, set(program.trainable))
    parts = {part.name: (part.forward, part.backward) for part in found}
    return lowered, Traced(digest(lowered.as_text()), held, parts)


def step_program(work: Workload, mesh: Mesh) -> StageProgram:
    """The stage's own program, as a run makes it."""
    settings = work.settings
    kept = dtype_of(settings["precision"]["params"])
    return stage_program(
        work.stage,
        work.spec,
        video_lm_skeleton(work.spec, kept),
        mesh,
        seed=settings["seed"],
        dtype=dtype_of(settings["precision"]["compute"]),
        param_dtype=kept,
        remat=settings["remat"],
        chunk=settings["loss_chunk"],
    )


def lower(program: StageProgram, arrays: Mapping[str, Any], mesh: Mesh) -> tuple[Any, dict[str, float]]:
    """The step ready for the compiler, and the bytes of what a device holds between steps, by what it is."""
    where = batch_shardings(mesh, arrays, program.stage.groups)
    batch = {n: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where[n]) for n, a in arrays.items()}
    tree = program.abstract()
    state, frozen, idle = (tree[name] for name in ("state", "frozen", "idle"))
    rates = jax.ShapeDtypeStruct((1 + len(program.stage.rates),), np.float32, sharding=replicated(mesh))
    held = {
        "trained parameters": per_device(state.trainable),
        "optimizer state": per_device(state.optimizer),
        "parameters held still": per_device(frozen),
        "batch": per_device(batch),
    }
    idle_bytes = per_device(idle)
    if idle_bytes:
        held["parameters that the stage leaves out"] = idle_bytes
    return lower_step(program.step(), state, frozen, batch, rates), held


def flow_of(module: Module, loops: Loops, mesh: Mesh, target: Target) -> Flow:
    """FLOPs, bytes, collectives and times of a compiled program."""
    runs = count_runs(module, loops.turns())
    done, moved = flops(module, runs, loops.share), bytes_moved(module, runs, loops.share)
    found = find_collectives(module, runs, dict(mesh.shape))
    links = target.links(list(mesh.devices.flat))
    seconds = {} if target.chip is None else dict(roofline(target.chip, done, moved, found, links).terms)
    told = tuple(
        Told(one.kind, one.axes, one.group, one.times, one.bytes, sum(links.seconds(one)) if target.chip else 0.0)
        for one in found
    )
    return Flow(done, moved, told, seconds)


def versions_of(target: Target) -> dict[str, str]:
    """What a plan depends on besides the program."""
    names = {"vidlmm": "vidlmm", "jax": "jax", "jaxlib": "jaxlib"}
    found = {name: importlib.metadata.version(package) for name, package in names.items()}
    return found | ({"libtpu": compiler_version()} if target.is_tpu else {})


def _with_rates(plan: Plan, work: Workload, target: Target, samples: int) -> Plan:
    """The plan with what follows from its times and the recipe's data, which no compiler is needed for."""

    return replace(plan, config=work.config, notes=work.notes, rates=rates_of(plan, work, target, samples))
