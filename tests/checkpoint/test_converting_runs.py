"""Released checkpoints as runs, and runs as the releases that they were begun from."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import vidlmm
from tests.checkpoint.converted import GRID, HOUND, ONE_TOKEN, PORT, config_of, source_of, stored, with_tokenizer
from tests.checkpoint.released import write_folder
from tests.conftest import GOLDENS
from tests.media.golden_case import Case
from vidlmm.checkpoint.converting import convert
from vidlmm.checkpoint.converting_pairs import ConvertError
from vidlmm.checkpoint.layout import Overrides
from vidlmm.checkpoint.released import open_released
from vidlmm.checkpoint.run import begin_run, finish_run, load_run
from vidlmm.generate.items import Video
from vidlmm.spec import SlowFastSpec

# --- orbax ------------------------------------------------------------------------------------------------------------


def test_a_run_has_the_checkpoints_numbers(original, tmp_path):
    folder = shutil.copytree(original.folder, tmp_path / "a")
    with_tokenizer(folder, 320)
    plan = convert(folder, tmp_path / "run", "orbax", Overrides(vision_config=original.case["vision_config"]))
    assert plan.notes == ()
    run = vidlmm.load(tmp_path / "run")
    assert run.spec == original.model.spec
    ids, shown = original.inputs["input_ids"][0], [Video(original.inputs["pixel_values_0"].transpose(0, 2, 3, 1))]
    np.testing.assert_array_equal(run.logits(ids, shown), original.model.logits(ids, shown))
    run.save_pretrained(tmp_path / "back")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "back" / path.name).read_bytes(), path.name


def test_a_runs_arrays_keep_their_type_and_are_read_in_another(tmp_path):
    source, given = source_of(ONE_TOKEN, tmp_path / "a", dtype=ml_dtypes.bfloat16)
    with_tokenizer(source, 300)
    convert(source, tmp_path / "run", "orbax", given)
    loaded = open_released(source, given).load(None)
    for dtype in (np.float32, ml_dtypes.bfloat16, None):
        _, _, params = load_run(tmp_path / "run", dtype)
        assert set(params) == set(loaded)
        for name, array in params.items():
            assert array.dtype == (dtype or ml_dtypes.bfloat16)
            np.testing.assert_array_equal(np.asarray(array), np.asarray(loaded[name]).astype(array.dtype), err_msg=name)
    for load in (vidlmm.load, partial(vidlmm.from_pretrained, dtype=None)):
        assert load(tmp_path / "run").module.dtype == ml_dtypes.bfloat16


def test_a_run_without_a_tokenizer_reads_ids_and_writes_no_text(tmp_path):
    source, given = source_of(ONE_TOKEN, tmp_path / "a")
    notes = convert(source, tmp_path / "run", "orbax", given).notes
    assert "there is no tokenizer.json or tokenizer.model" in notes[-1]
    spec, tokenizer, _ = load_run(tmp_path / "run")
    run = vidlmm.load(tmp_path / "run")
    assert (tokenizer, run.tokenizer, run.spec) == (None, None, spec)
    with pytest.raises(ValueError, match="has no tokenizer, so it cannot read or write text; put tokenizer.json or"):
        run.chat("a.mp4", "What?")


def test_a_damaged_orbax_folder_is_one_error(tmp_path):
    source, given = source_of(ONE_TOKEN, tmp_path / "a")
    convert(with_tokenizer(source, 300), tmp_path / "run", "orbax", given)
    (tmp_path / "run" / "arrays" / "state" / "_METADATA").unlink()
    with pytest.raises(ValueError, match=r"arrays is no whole orbax folder"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize("argument", ["vision_config", "special_tokens", "towers", "base"])
def test_what_a_run_says_itself_cannot_be_given(tmp_path, argument):
    (tmp_path / "spec.json").write_text("{}")
    with pytest.raises(ValueError, match="is a run, whose spec.json says what it is .* leave out vision_config"):
        vidlmm.from_pretrained(tmp_path, **{argument: {"towers": {"a": "b"}, "base": "a"}.get(argument, {"a": 1})})


# --- and back ---------------------------------------------------------------------------------------------------------

BACK = {
    "grid": (GRID, 3),
    "action": (GOLDENS / "llava_video" / "06_llavaction_one_token", 1),
    "port": (PORT, 2),
    "hound": (HOUND, 2),
    "valley": (GOLDENS / "valley" / "valley_v3", 1),
    "sound": (GOLDENS / "videollama2" / "av_siglip_beats_qwen2_16f", 2),
    "experts": (GOLDENS / "videollama2" / "stc_connector_clip_mixtral_8f", 1),
}


@pytest.mark.parametrize(("case", "files"), BACK.values(), ids=BACK)
def test_a_run_becomes_the_release_again_byte_for_byte(case, files, tmp_path):
    text = Case(case).text
    source = write_folder(tmp_path / "a", text, files=files, dtype=ml_dtypes.bfloat16)
    (source / "generation_config.json").write_text("{}")
    vision, audio = (text.get(name) or {} for name in ("vision_config", "audio_config"))
    given = Overrides(vision, audio, text["settings"].get("special_tokens") or {})
    convert(source, tmp_path / "run", "orbax", given)
    shutil.rmtree(source)
    done: list[int] = []
    plan = convert(tmp_path / "run", tmp_path / "b", "original", begin=lambda plan: done.append)
    assert sum(done) == plan.nbytes and plan.source.spec.name
    whole = write_folder(tmp_path / "whole", text, files=files, dtype=ml_dtypes.bfloat16)
    for path in whole.iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    assert (tmp_path / "b" / "generation_config.json").read_text() == "{}"
    assert len(list((tmp_path / "b").iterdir())) == len(list(whole.iterdir())) + 1


def test_a_tower_that_was_left_out_is_left_out_again(towerless, tmp_path):
    source, given = towerless
    convert(source, tmp_path / "run", "orbax", given)
    convert(tmp_path / "run", tmp_path / "b", "original")
    assert stored(source) == stored(tmp_path / "b")


def trained(folder: Path, begun: Path | str, given: Overrides, spec: Any = None, **changed: Any) -> Path:
    """A finished run that was begun from a release or a run; `changed` are arrays by name."""
    release = open_released(source_of(GRID, folder / "release")[0], given)
    tokenizer = with_tokenizer(folder / "release", 300) / "tokenizer.json"
    run = begin_run(folder / "run", {"init": str(begun)}, spec or release.spec, tokenizer)
    finish_run(run, {**release.load(None), **changed}, None, {"steps": 1})
    return folder / "run"


def test_a_trained_run_is_written_as_the_release_that_it_was_begun_from(tmp_path):
    source, given = source_of(GRID, tmp_path / "a", files=2, dtype=ml_dtypes.bfloat16)
    newline = np.arange(64, dtype=np.float32)
    run = trained(tmp_path / "first", source, given, **{"connector.newline": newline})
    # Another was begun from it.
    run = trained(tmp_path / "second", run, given, **{"connector.newline": newline})
    convert(run, tmp_path / "b", "original")
    released = open_released(tmp_path / "b", given)
    assert released.folder.tensors["model.image_newline"].dtype == "F32", "as it was trained"
    np.testing.assert_array_equal(released.load(None)["connector.newline"], newline)
    assert set(stored(tmp_path / "b")) == set(stored(source)), "what the graph does not use comes along"
    assert config_of(tmp_path / "b") == config_of(source)


@pytest.mark.parametrize(
    ("begun", "to", "message"),
    [
        ("", "original", "knows no released layout: it was begun from fresh weights"),
        ("base:folder", "original", "knows no released layout: it was begun from base:folder"),
        ("nobody is there", "original", "it was begun from nobody is there, and nobody is there is not there"),
        ("a", "llava-hf", "becomes the layout of its own release: --to original; convert that to llava-hf"),
        ("a", "orbax", "becomes the layout of its own release"),
    ],
)
def test_a_run_that_has_no_way_back_says_why(begun, to, message, tmp_path):
    _, given = source_of(GRID, tmp_path / "a")
    run = trained(tmp_path / "it", tmp_path / "a" if begun == "a" else begun, given)
    with pytest.raises(ConvertError, match=message):
        convert(run, tmp_path / "b", to)


def test_a_run_that_sees_media_in_another_way_says_so_in_config_json(tmp_path):
    """LLaVA-Video is LLaVA-OneVision trained on with other newlines."""
    source, given = source_of(GRID, tmp_path / "a")
    spec = open_released(source, given).spec
    other = replace(spec, connector=replace(spec.connector, newline="frame", pool_mode="max"))
    convert(trained(tmp_path / "it", source, given, other), tmp_path / "b", "original")
    assert open_released(tmp_path / "b", given).spec == other
    changed = {"mm_newline_position": "frame", "mm_spatial_pool_mode": "max"}
    assert config_of(tmp_path / "b") == config_of(source) | changed


def test_a_run_that_became_another_model_is_refused_with_all_that_differs(tmp_path):
    source, given = source_of(GRID, tmp_path / "a")
    spec = open_released(source, given).spec
    decoder, connector = replace(spec.decoder, norm_eps=1e-5), replace(spec.connector, slowfast=SlowFastSpec(3))
    run = trained(tmp_path / "it", source, given, replace(spec, decoder=decoder, connector=connector))
    with pytest.raises(ConvertError) as error:
        convert(run, tmp_path / "b", "original")
    for line in ("connector.slowfast", "decoder.norm_eps 1e-05 instead of 1e-06"):
        assert line in str(error.value)


def test_an_unfinished_run_is_not_converted(tmp_path):
    source, given = source_of(GRID, tmp_path / "a")
    run = trained(tmp_path / "it", source, given)
    (run / "model.safetensors").unlink()
    with pytest.raises(ConvertError, match="is not finished; run its `vidlmm train` command again"):
        convert(run, tmp_path / "b", "original")
