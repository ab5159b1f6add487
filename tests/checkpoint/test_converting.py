"""Released checkpoints in another layout and back: the same bytes, the same numbers, and what is refused."""

import json
import shutil
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from tokenizers import Tokenizer

import vidlmm
from tests.checkpoint.converted import (
    GRID,
    HOUND,
    ONE_TOKEN,
    PORT,
    config_of,
    given_of,
    source_of,
    stored,
    with_tokenizer,
)
from tests.checkpoint.parity import Parity
from tests.checkpoint.real_size import Shapes, hound_shapes
from tests.checkpoint.released import case_tensors, write_folder, write_tensors
from tests.conftest import GOLDENS
from tests.media.golden_case import Case
from vidlmm.checkpoint import converting_folder
from vidlmm.checkpoint.converting import Plan, convert
from vidlmm.checkpoint.converting_pairs import PAIRS, ConvertError, find_pair
from vidlmm.checkpoint.layout import Overrides
from vidlmm.checkpoint.layout import Shapes as Named
from vidlmm.checkpoint.released import LAYOUTS, open_released, understand
from vidlmm.checkpoint.tensors import read_header
from vidlmm.generate.forward import Forward
from vidlmm.generate.items import Video, prompt_of


@pytest.mark.parametrize(("case", "files"), [(ONE_TOKEN, 1), (GRID, 3), (HOUND, 2)], ids=["one_token", "grid", "hound"])
def test_there_and_back_every_file_is_the_same(case, files, tmp_path):
    source, given = source_of(case, tmp_path / "a", files=files, dtype=ml_dtypes.bfloat16)
    convert(source, tmp_path / "b", "llava-hf", given)
    convert(tmp_path / "b", tmp_path / "c", "original")
    assert stored(source) == stored(tmp_path / "c")
    assert config_of(source) == config_of(tmp_path / "c")
    for path in source.glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "c" / path.name).read_bytes(), path.name
    index = "model.safetensors.index.json"
    assert (source / index).exists() == (files > 1) == (tmp_path / "c" / index).exists()
    if files > 1:
        assert json.loads((source / index).read_text()) == json.loads((tmp_path / "c" / index).read_text())
        assert set(json.loads((tmp_path / "b" / index).read_text())["weight_map"]) == set(stored(tmp_path / "b"))


def test_the_port_comes_back_as_well(tmp_path):
    source, _ = source_of(PORT, tmp_path / "a", files=2)
    plan = convert(source, tmp_path / "b", "original")
    assert config_of(tmp_path / "b")["model_type"] == "llava_qwen"
    convert(tmp_path / "b", tmp_path / "c", "llava-hf", given_of(plan))
    assert stored(source) == stored(tmp_path / "c")
    assert config_of(source) == config_of(tmp_path / "c")


def test_mixed_types_stay_each_tensors_own(tmp_path):
    text = Case(ONE_TOKEN).text
    kinds = (np.float32, ml_dtypes.bfloat16, np.float16)
    mixed = {name: one.astype(kinds[n % 3]) for n, (name, one) in enumerate(case_tensors(text).items())}
    source = write_tensors(tmp_path / "a", mixed, text["config"])
    convert(source, tmp_path / "b", "llava-hf", Overrides(vision_config=text["vision_config"]))
    convert(tmp_path / "b", tmp_path / "c", "original")
    assert stored(source) == stored(tmp_path / "c")


def test_the_port_of_an_original_has_the_originals_numbers(original, tmp_path):
    vision = original.case["vision_config"]
    convert(original.folder, tmp_path / "b", "llava-hf", Overrides(vision_config=vision))
    port = vidlmm.from_pretrained(tmp_path / "b", dtype=None)
    assert port.spec.decoder.vocab == 384, "room for two tokens behind 320, in 64s"
    pixels, ids = original.inputs["pixel_values_0"].transpose(0, 2, 3, 1), np.asarray(original.inputs["input_ids"][0])
    at = int(np.argmax(ids < 0))
    places = original.case["settings"]["merged_length"] - len(ids) + 1
    token = dict(port.spec.special_tokens)["<video>"]
    expanded = np.concatenate([ids[:at], np.full(places, token), ids[at + 1 :]])
    original.close(
        "inputs_embeds", np.asarray(Forward(port.module).embeds(prompt_of(expanded, [Video(pixels)], port.spec)))[None]
    )
    logits = port.logits(expanded, [Video(pixels)])
    original.close("logits", logits[None, :, :320])
    np.testing.assert_array_less(logits[:, 320:].max(-1), logits[:, :320].max(-1), "a new token is never the likeliest")
    convert(tmp_path / "b", tmp_path / "c", "original")
    back = vidlmm.from_pretrained(tmp_path / "c", dtype=None, vision_config=vision)
    assert back.spec == original.model.spec
    np.testing.assert_array_equal(back.logits(ids, [Video(pixels)]), original.model.logits(ids, [Video(pixels)]))


def test_the_original_of_a_port_has_the_ports_numbers(tmp_path):
    port = Parity(PORT, tmp_path / "a")
    given = given_of(convert(port.folder, tmp_path / "b", "original"))
    model = vidlmm.from_pretrained(tmp_path / "b", dtype=None, vision_config=given.vision_config)
    ids, shown = np.asarray(port.inputs["input_ids"][0]), [Video(port.inputs["pixel_values_0"].transpose(0, 2, 3, 1))]
    first, places = int(np.argmax(ids == 314)), int((ids == 314).sum())
    short = np.concatenate([ids[:first], [-200], ids[first + places :]])
    port.close("logits", model.logits(short, shown)[None])


def test_a_tokenizer_learns_the_tokens_of_media_where_it_has_room(tmp_path):
    source, given = source_of(ONE_TOKEN, tmp_path / "a")
    with_tokenizer(source, 300)
    plan = convert(source, tmp_path / "b", "llava-hf", given)
    assert isinstance(plan, Plan) and plan.rows == 320
    config = config_of(tmp_path / "b")
    assert (config["image_token_index"], config["video_token_index"]) == (300, 301)
    tokenizer = Tokenizer.from_file(str(tmp_path / "b" / "tokenizer.json"))
    assert [tokenizer.token_to_id(name) for name in ("<image>", "<video>", "w7")] == [300, 301, 7]
    decoder = json.loads((tmp_path / "b" / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    assert {id: token["content"] for id, token in decoder.items()} == {"300": "<image>", "301": "<video>"}
    assert {name: one[1] for name, one in stored(tmp_path / "b").items()}["language_model.lm_head.weight"] == (320, 64)


def test_ids_that_are_given_or_known_are_taken(tmp_path):
    source, given = source_of(ONE_TOKEN, tmp_path / "a")
    tokens = {"<image>": 313, "<video>": 314}
    convert(source, tmp_path / "b", "llava-hf", Overrides(given.vision_config, special_tokens=tokens))
    assert open_released(tmp_path / "b").spec.special_tokens == tuple(tokens.items())
    with_tokenizer(source, 300)
    (source / "added_tokens.json").write_text('{"<video>": 310}')
    convert(source, tmp_path / "c", "llava-hf", given)
    assert open_released(tmp_path / "c").spec.special_tokens == (("<image>", 311), ("<video>", 310))


def test_what_a_port_was_taught_in_between_is_kept(tmp_path):
    """A vocabulary that grew further after it was converted stays as large."""
    source, given = source_of(ONE_TOKEN, tmp_path / "a")
    convert(source, tmp_path / "b", "llava-hf", given)
    tensors = {
        name: np.array(one.read()) for name, one in read_header(tmp_path / "b" / "model.safetensors").tensors.items()
    }
    for name in tensors:
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            tensors[name] = np.concatenate([tensors[name], tensors[name][:16]])
    write_tensors(tmp_path / "d", tensors, config_of(tmp_path / "b"))
    convert(tmp_path / "d", tmp_path / "e", "original")
    assert config_of(tmp_path / "e")["vocab_size"] == 400
    assert open_released(tmp_path / "e", given).spec.decoder.vocab == 400


def test_what_the_other_layout_makes_of_media_is_told(tmp_path):
    source, given = source_of(GRID, tmp_path / "a")
    notes = "\n".join(convert(source, tmp_path / "b", "llava-hf", given).notes)
    assert "connector.newline 'one_token' instead of 'grid'" in notes and "384 rows there instead of 320" in notes
    back = "\n".join(convert(tmp_path / "b", tmp_path / "c", "original").notes)
    assert 'vision_config={"model_type": "siglip_vision_model"' in back
    vision = json.loads(back.split("vision_config=")[1].splitlines()[0])
    assert open_released(tmp_path / "c", Overrides(vision_config=vision)).spec == open_released(source, given).spec


def test_other_files_come_along_and_pickles_do_not(tmp_path):
    source, given = source_of(ONE_TOKEN, tmp_path / "a")
    (source / "generation_config.json").write_text("{}")
    (source / "pytorch_model.bin").write_bytes(b"old")
    (tmp_path / "b").mkdir()
    convert(source, tmp_path / "b", "llava-hf", given)
    names = {path.name for path in (tmp_path / "b").iterdir()}
    assert names == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "processor_config.json",
        "video_preprocessor_config.json",
    }
    seen = json.loads((tmp_path / "b" / "preprocessor_config.json").read_text())
    assert seen["image_mean"] == [0.5, 0.5, 0.5] and seen["size"] == {"height": 130, "width": 130}


def test_a_tower_that_was_left_out_comes_along(towerless, tmp_path):
    source, given = towerless
    convert(source, tmp_path / "b", "llava-hf", given)
    whole = write_folder(tmp_path / "whole", Case(ONE_TOKEN).text)
    convert(whole, tmp_path / "c", "llava-hf", Overrides(given.vision_config))
    assert stored(tmp_path / "b") == stored(tmp_path / "c")
    listed = json.loads((tmp_path / "b" / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(listed) == set(stored(tmp_path / "b"))


def test_progress_is_told_in_bytes(tmp_path):
    source, given = source_of(ONE_TOKEN, tmp_path / "a")
    for to in ("llava-hf", "orbax"):
        done: list[int] = []
        plan = convert(source, tmp_path / to, to, given, lambda plan, tell=done.append: tell)
        assert sum(done) == plan.nbytes and len(done) > 20


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "to", "message"),
    [
        ("llava", "original", "cannot become original; possible is --to llava-hf or --to orbax"),
        ("llava_hf", "llava-hf", "cannot become llava-hf; possible is --to original or --to orbax"),
        ("videollama2", "llava-hf", "possible is --to orbax"),
        ("valley", "original", "possible is --to orbax"),
        ("llavaction", "llava-hf", "possible is --to orbax"),
        ("text_only", "original", "possible is --to orbax"),
    ],
)
def test_a_way_that_is_not_there_lists_those_that_are(layout, to, message):
    with pytest.raises(ConvertError, match=message):
        find_pair(layout, to)


def test_every_layout_has_a_way_or_none_for_each_target():
    names = {layout.name for layout in LAYOUTS}
    assert {pair.source for pair in PAIRS} | {pair.target for pair in PAIRS} <= names


def test_a_target_that_is_not_empty_is_left_alone(tmp_path):
    source, given = source_of(ONE_TOKEN, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    for target in (tmp_path / "b", source, source / "config.json"):
        with pytest.raises(ConvertError, match="is there and not empty"):
            convert(source, target, "llava-hf", given)
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["mine.txt"]


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    source, given = source_of(ONE_TOKEN, tmp_path / "a")
    monkeypatch.setattr(converting_folder.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 5))
    for to in ("llava-hf", "orbax"):
        with pytest.raises(ConvertError, match=r"takes 0\.00 GiB and its disk has 0\.00 GiB free"):
            convert(source, tmp_path / "b", to, given)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("to", ["llava-hf", "orbax"])
def test_what_is_interrupted_leaves_nothing(to, tmp_path):
    source, given = source_of(ONE_TOKEN, tmp_path / "a")

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "b", to, given, lambda plan: stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_tensors_without_a_place_are_listed(tmp_path):
    text = Case(GRID).text
    fast = case_tensors(text) | {"model.faster_token": np.zeros(64, np.float32)}
    source = write_tensors(tmp_path / "a", fast, text["config"])
    with pytest.raises(ConvertError, match=r"the layout llava-hf has no place for model\.faster_token"):
        convert(source, tmp_path / "b", "llava-hf", Overrides(vision_config=text["vision_config"]))


def test_a_tower_that_the_port_cannot_run_is_refused(tmp_path):
    """The original's code runs all layers that a SigLIP tower still has; no field says otherwise."""
    text = Case(PORT).text
    source = write_folder(tmp_path / "a", text, vision_feature_layer=-2)
    with pytest.raises(
        ConvertError, match=r"cannot be written as original, which would make of it tower\.layers 3 instead"
    ):
        convert(source, tmp_path / "b", "original")


def test_the_port_of_video_llava_has_lost_what_the_original_needs(tmp_path):
    source, _ = source_of(GOLDENS / "hound" / "hf_videollava_gelu", tmp_path / "a")
    with pytest.raises(ConvertError, match=r"no attention along time \(\*\.temporal_attn\.\*\)"):
        convert(source, tmp_path / "b", "original")


# --- real sizes -------------------------------------------------------------------------------------------------------


def llava_shapes(model: str) -> Shapes:
    listed = json.loads((GOLDENS / "keys_llava.json").read_text())["models"][model]["tensors"]
    shapes: Shapes = {}
    for name, about in listed.items():
        entry = about if isinstance(about, dict) else {"shape": about, "count": 1}
        shapes |= dict.fromkeys((name.replace("{i}", str(i)) for i in range(entry["count"])), tuple(entry["shape"]))
    return shapes


@pytest.mark.parametrize(
    ("layout", "shapes"),
    [
        ("llava", llava_shapes("LLaVA-Video-72B-Qwen2")),
        ("llava", llava_shapes("llava-onevision-qwen2-0.5b-ov")),
        ("hound", hound_shapes("Video-LLaVA-7B")),
    ],
    ids=["72b", "0.5b", "video_llava"],
)
def test_every_name_of_a_release_goes_there_and_back(layout, shapes):
    there = find_pair(layout, "llava-hf")
    back = find_pair(there.target, "original")
    names = there.renamed(Named(shapes))
    assert set(names) == set(shapes) and len(set(names.values())) == len(shapes)
    again = back.renamed(Named({names[key]: shape for key, shape in shapes.items()}))
    assert {again[names[key]]: key for key in shapes} == {key: key for key in shapes}


def test_the_released_onevision_has_room_for_its_tokens_and_a_known_tower():
    """At real size nothing has to be told: the ids are the hub's, the way back names the tower."""
    shapes = llava_shapes("llava-onevision-qwen2-0.5b-ov")
    config = Case(ONE_TOKEN).text["config"] | {"num_attention_heads": 14, "image_grid_pinpoints": [[384, 768]]}
    _, spec, _, _ = understand(config, shapes)
    pair = find_pair("llava", "llava-hf")
    ids = tuple(pair.media_tokens.items())
    port = pair.config(replace(spec, special_tokens=ids), config, Named(shapes))
    theirs = {name: shapes[key] for key, name in pair.renamed(Named(shapes)).items()}
    layout, seen, _, _ = understand(port, theirs)
    assert (layout.name, seen.tower, seen.decoder, seen.special_tokens) == ("llava_hf", spec.tower, spec.decoder, ids)
    assert seen.pixels.pinpoints == spec.pixels.pinpoints
    back = find_pair("llava_hf", "original").config(seen, port, Named(theirs))
    assert back["mm_vision_tower"] == "google/siglip-so400m-patch14-384"
    again = understand(back, shapes)[1]
    assert (again.tower, again.decoder, again.connector) == (spec.tower, spec.decoder, spec.connector)
