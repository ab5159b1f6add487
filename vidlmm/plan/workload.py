"""What is planned: a stage of a config, the shapes of its batches, and what they are taken to hold."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from vidlmm.data.most import most_shown, static_sizes
from vidlmm.data.records import MediaRef
from vidlmm.layout import Item, assemble, item_plan, merge, stack
from vidlmm.layout.batch import Sizes
from vidlmm.media.waveforms import SOUND_FRAMES
from vidlmm.parallel.rules import AXES, BATCH
from vidlmm.plan.errors import PlanError
from vidlmm.spec import ModelSpec
from vidlmm.train.setup import resolve_spec
from vidlmm.train.stage import Stage, stage_from_config

# Words of a cell, in the objectives that read them.
_WORDS = 8
# Places of text beside what a sample shows, where nothing else tells them.
_TEXT = 250


@dataclass(frozen=True)
class Workload:
    """A stage on a mesh.

    settings: the config, plain. mesh: sizes of all axes. notes: what the plan chose by itself.
    """

    config: str
    settings: Mapping[str, Any]
    spec: ModelSpec
    stage: Stage
    mesh: Mapping[str, int]
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> Item | None:
        """What a sample shows: a video where the batch has frames, a sound where only that is heard, or nothing."""
        spec = self.spec
        if self.stage.objective not in _READ:
            return None
        if self.stage.frames and spec.frames.count:
            return Item("video", spec.frames.count, sound=SOUND_FRAMES if spec.audio else 0)
        return Item("audio", sound=SOUND_FRAMES) if spec.audio and self.stage.objective == "sft" else None

    @property
    def samples(self) -> int:
        """Samples of a row: one, or in packed rows as many videos as its frames and places hold."""
        shown = self.shown
        if shown is None or not self.stage.source_dict.get("packed"):
            return 1
        places = len(item_plan(shown, self.spec))
        held = self.stage.length // max(1, places)
        if shown.kind == "video":
            held = min(held, self.stage.frames // self.stage.rows // shown.frames)
        return max(1, held)

    @property
    def sample_places(self) -> int:
        """Places of a sample: its row's, shared out."""
        return self.stage.length // self.samples

    @property
    def trained_places(self) -> int:
        """Places of a row that may be trained: all but what is shown. An upper bound: of a conversation answers are."""
        shown = self.shown
        return max(1, self.stage.length - (self.samples * len(item_plan(shown, self.spec)) if shown else 0))

    @property
    def devices(self) -> int:
        return math.prod(self.mesh.values())


_READ = ("sft", "dpo", "preference")


def workload(name: str, settings: Mapping[str, Any], stage: str | None, devices: int, slices: int = 1) -> Workload:
    """The workload of a config's stage on so many devices.

    Args:
        settings: the config, plain. stage: a name or a number; None takes the last one, which is the longest.

    Raises:
        PlanError: no such stage, or a mesh that does not divide devices, heads or places.
        RunError: settings that no run can have.
    """
    stages = [stage_from_config(one) for one in settings["stages"]]
    if not stages:
        raise PlanError(f"{name} has no stages, so there is nothing to plan")
    spec = resolve_spec(settings["system"], settings["spec"])
    mesh = mesh_sizes(settings["mesh"], devices, slices)
    check_mesh(mesh, spec)
    chosen, note = divided(_stage(stages, stage), mesh)
    return Workload(name, settings, spec, chosen, mesh, (note,) if note else ())


def _stage(stages: Sequence[Stage], wanted: str | None) -> Stage:
    names = [one.name for one in stages]
    if wanted is None:
        return stages[-1]
    if wanted in names:
        return stages[names.index(wanted)]
    if wanted.isdecimal() and int(wanted) < len(stages):
        return stages[int(wanted)]
    raise PlanError(f"there is no stage {wanted!r}; there are {', '.join(names)}")


def mesh_sizes(given: Mapping[str, int], devices: int, slices: int = 1) -> dict[str, int]:
    """Sizes of all axes, as `vidlmm.parallel.make_mesh` takes them.

    Raises:
        PlanError: sizes whose product is not the number of devices.
    """
    sizes = {axis: int(given.get(axis, 1)) for axis in AXES}
    if sizes["slice"] == -1 or "slice" not in given:
        sizes["slice"] = slices
    left = [axis for axis, size in sizes.items() if size == -1]
    fixed = math.prod(size for size in sizes.values() if size > 0)
    shown = " x ".join(f"{axis}={size}" for axis, size in sizes.items() if size != 1) or "data=1"
    if sizes["slice"] != slices:
        raise PlanError(f"mesh {shown}: the topology has {slices} slice(s), so mesh.slice must be {slices} or -1")
    if len(left) > 1:
        raise PlanError(f"mesh {shown}: only one axis can take what is left; give {left[0]} or {left[1]} a size")
    if left and devices % fixed == 0:
        sizes[left[0]] = devices // fixed
    if math.prod(sizes.values()) != devices:
        rule = "their product must divide it" if left else "their product must be it"
        raise PlanError(f"mesh {shown}: the sizes multiply to {fixed}, the topology has {devices} devices; {rule}")
    return sizes


def check_mesh(mesh: Mapping[str, int], spec: ModelSpec) -> None:
    """Whether the mesh divides what it is meant to split; what it does not would stand whole on each device.

    Raises:
        PlanError: which number must divide which.
    """
    decoder = spec.decoder
    parts = [("tensor", decoder.kv_heads, "key heads"), ("tensor", decoder.mlp, "MLP columns")]
    parts += [("expert", decoder.experts or 1, "experts")]
    for axis, size, what in parts:
        if size % mesh[axis]:
            fits = ", ".join(str(n) for n in range(1, size + 1) if size % n == 0 and n <= 64)
            raise PlanError(
                f"mesh {axis}={mesh[axis]} must divide the decoder's {size} {what}: make {axis} one of {fits}"
            )


def divided(stage: Stage, mesh: Mapping[str, int]) -> tuple[Stage, str]:
    """The stage with a batch that the mesh can deal out, and what was changed for it.

    Raises:
        PlanError: rows whose places the mesh does not divide.
    """
    if stage.length % mesh["context"]:
        raise PlanError(
            f"mesh context={mesh['context']} must divide the {stage.length} places of a row: make batch.length a "
            f"multiple of {mesh['context']}"
        )
    ways = math.prod(mesh[axis] for axis in BATCH)
    if stage.groups % ways == 0:
        return stage, ""
    groups = ways * max(1, round(stage.groups / ways))
    rows, frames = (getattr(stage, name) // stage.groups * groups for name in ("rows", "frames"))
    rates = "the batch is another one than the config's, and so may the best rates be"
    note = (
        f"batch.groups {stage.groups} -> {groups} (rows {stage.rows} -> {rows}, frames {stage.frames} -> {frames}), "
        f"because the mesh deals a batch out {ways} ways; {rates}"
    )
    return replace(stage, groups=groups, rows=rows, frames=frames), note


def batch_arrays(work: Workload) -> dict[str, jax.ShapeDtypeStruct]:
    """The arrays of a batch, shapes and types alone."""
    stage, spec, side = work.stage, work.spec, work.spec.pixels.size
    int32, uint8 = np.int32, np.uint8
    if stage.objective == "siglip":
        shapes = {"frames": ((stage.rows, side, side, 3), uint8), "ids": ((stage.rows, stage.length), int32)}
        shapes |= {"lengths": ((stage.rows,), int32)}
        return _structs(shapes)
    cells = spec.grids[0] ** 2 if spec.grids else 0
    if stage.objective == "cells":
        shapes = {"frames": ((stage.rows, side, side, 3), uint8), "words": ((stage.rows * cells, _WORDS), int32)}
        return _structs(shapes)
    arrays = _rows_batch(work)
    if stage.objective == "boards":
        del arrays["frames"]
        arrays["words"] = jax.ShapeDtypeStruct((stage.frames * cells, _WORDS), int32)
    if stage.objective == "preference":
        # A row is a tree of so many pairs at the most (`vidlmm.train.preference_objective`).
        pairs = (stage.rows, stage.source_dict["pairs_a_tree"])
        arrays |= _structs({"pair": (pairs, int32), "reference": ((*pairs, 2, 2), np.float32)})
    return arrays


def _rows_batch(work: Workload) -> dict[str, jax.ShapeDtypeStruct]:
    """One group as the data's own code makes it, as often as there are groups."""
    stage, spec = work.stage, work.spec
    rows, frames = stage.rows // stage.groups, stage.frames // stage.groups
    sizes = _sizes(work, rows)
    nothing = merge(np.zeros(1, np.int32), np.zeros(1, np.int32), [])
    one = assemble(
        [(nothing, stack([], spec))], rows, stage.length, frames,
        spec.tables(sizes.clip_length, sizes.sound_length), [0], sizes,
    )  # fmt: skip
    return {
        name: jax.ShapeDtypeStruct((array.shape[0] * stage.groups, *array.shape[1:]), array.dtype)
        for name, array in one.arrays().items()
        if array is not None
    }


def _sizes(work: Workload, rows: int) -> Sizes:
    """Clips, sounds, pictures and blends that a group of such rows must be able to hold."""
    spec, shown, stage = work.spec, work.shown, work.stage
    if shown is None:
        return Sizes(classes=len(spec.action.types) if spec.action else 0)
    media: list[MediaRef] = [MediaRef(shown.kind, "")]
    if spec.image_tower is not None or spec.connector.blends:
        media.append(MediaRef("image", ""))
    found = [most_shown([one], spec) for one in media]
    packed = bool(stage.source_dict.get("packed"))
    places = [len(item_plan(shown, spec)) + _TEXT, spec.tower.tokens + _TEXT][: len(found)] if packed else None
    repeats = rows * max(1, stage.length // _TEXT)
    return static_sizes(found * repeats, None if places is None else places * repeats, rows, stage.length, spec)


def _structs(shapes: Mapping[str, tuple[tuple[int, ...], Any]]) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(shape, kind) for name, (shape, kind) in shapes.items()}


def settings_key(work: Workload) -> dict[str, Any]:
    """What of a workload decides its program."""
    stage = {name: value for name, value in dataclasses.asdict(work.stage).items() if name != "source"}
    kept = {name: work.settings[name] for name in ("precision", "remat", "loss_chunk")}
    return {"spec": dataclasses.asdict(work.spec), "stage": stage, "mesh": dict(work.mesh), **kept}
