"""A config and a mesh into what is planned, and what cannot be."""

from typing import Any

import pytest

from vidlmm.configs import load_config, packaged_configs
from vidlmm.plan.errors import PlanError
from vidlmm.plan.scale import every_recipe, scale_rows
from vidlmm.plan.workload import Workload, batch_arrays, check_mesh, mesh_sizes, workload
from vidlmm.spec import SYSTEMS
from vidlmm.spec.slices import find_topology
from vidlmm.train.setup import plain


def planned(config: str, devices: int, *overrides: str, stage: str | None = None, slices: int = 1) -> Workload:
    return workload(config, plain(load_config(config, list(overrides))), stage, devices, slices)


def refused(config: str, devices: int, *overrides: str, **others: Any) -> str:
    with pytest.raises(PlanError) as raised:
        planned(config, devices, *overrides, **others)
    return str(raised.value)


def test_a_mesh_that_does_not_divide_says_which_number_must() -> None:
    assert "must divide the decoder's 4 key heads: make tensor one of 1, 2, 4" in refused(
        "llava_video_7b", 64, "--config.mesh.tensor=8"
    )
    assert "multiply to 3, the topology has 64 devices" in refused("llava_video_7b", 64, "--config.mesh.tensor=3")
    assert "multiply to 16, the topology has 64 devices; their product must be it" in refused(
        "llava_video_7b", 64, "--config.mesh.fsdp=16"
    )
    assert "context=64 must divide the 26144 places of a row: make batch.length a multiple of 64" in refused(
        "llava_video_7b", 64, "--config.mesh.context=64", "--config.stages.0.batch.length=26144"
    )
    assert "only one axis can take what is left" in refused("llava_video_7b", 64, "--config.mesh.data=-1")
    assert "mesh.slice must be 4 or -1" in refused("llava_video_7b", 1024, "--config.mesh.slice=2", slices=4)
    assert "expert=8 must divide the decoder's 1 experts" in refused("llava_video_7b", 64, "--config.mesh.expert=8")
    with pytest.raises(PlanError, match="must divide the decoder's 18944 MLP columns"):
        check_mesh({"tensor": 3, "expert": 1}, _with_heads(3))
    assert "there are video" in refused("llava_video_7b", 64, stage="align")


def _with_heads(kv_heads: int) -> Any:
    from dataclasses import replace

    spec = SYSTEMS["llava_video_7b"]
    return replace(spec, decoder=replace(spec.decoder, kv_heads=kv_heads))


def test_sizes_of_a_mesh_over_slices() -> None:
    assert mesh_sizes({"fsdp": -1}, 512, slices=2)["fsdp"] == 256
    assert mesh_sizes({"slice": -1, "data": 1, "fsdp": 8, "tensor": 2}, 64, slices=4)["slice"] == 4
    assert list(mesh_sizes({}, 1).values()) == [1] * 6


def test_a_batch_that_the_mesh_cannot_deal_out_is_changed_and_said() -> None:
    work = planned("llava_video_7b", 128)
    assert (work.stage.groups, work.stage.rows, work.stage.frames) == (128, 128, 128 * 130)
    assert work.notes[0].startswith("batch.groups 80 -> 128 (rows 80 -> 128, frames 10400 -> 16640)")
    assert planned("llava_video_7b", 16).notes == ()


def test_samples_of_a_row() -> None:
    assert (planned("llava_video_7b", 16).samples, planned("llava_video_7b", 16).sample_places) == (2, 13056)
    assert planned("quickstart", 1, stage="instruct").samples >= 2
    assert planned("llavaction_7b", 64).samples == 1


@pytest.mark.parametrize("config", packaged_configs())
def test_every_packaged_config_has_a_workload_and_a_line(config: str) -> None:
    rows = [row for row in every_recipe() if row.config == config]
    assert rows
    for row in rows:
        topology = find_topology(row.topology)
        work = planned(config, topology.devices, stage=row.stage)
        arrays = batch_arrays(work)
        assert all(array.shape[0] % work.stage.groups == 0 for array in arrays.values())
        if work.stage.objective == "sft":
            assert arrays["table"].shape == (work.stage.rows, work.stage.length)
            assert arrays["frames"].shape[0] == work.stage.frames


def test_the_lines_of_the_page_are_possible() -> None:
    rows = list(scale_rows())
    assert 25 <= len(rows) <= 40
    assert len({row.key for row in rows}) == len(rows)
    chips = [find_topology(row.topology).chips for row in rows]
    assert (min(chips), max(chips)) == (8, 1024)
    for row in rows:
        topology = find_topology(row.topology)
        work = planned(row.config, topology.devices, *row.arguments, slices=topology.count)
        assert work.notes == (), row.key
        long = "256 frames" in row.section
        assert work.shown is not None and (work.shown.frames == 256) == long, row.key


def test_sound_and_clips_have_their_arrays() -> None:
    arrays = batch_arrays(planned("videollama2_av_joint", 32))
    assert arrays["sounds"].shape[1:] == (2998, 128)
    assert arrays["clips"].shape[1] == 16
    action = batch_arrays(planned("llavaction_7b", 64))
    assert action["classes"].shape == (64, 3)


def test_a_stage_on_pairs_has_their_numbers_and_the_references() -> None:
    for config in ("hound_dpo", "quickstart_dpo"):
        work = planned(config, 8)
        arrays = batch_arrays(work)
        pairs = (work.stage.rows, work.stage.source_dict["pairs_a_tree"])
        assert arrays["pair"].shape == pairs
        assert arrays["reference"].shape == (*pairs, 2, 2)
        assert arrays["frames"].shape[0] == work.stage.frames
