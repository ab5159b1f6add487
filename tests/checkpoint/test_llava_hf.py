"""LLaVA-OneVision under transformers' names: its numbers, all names of its releases, and what differs from the
original."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vidlmm
from tests.checkpoint.parity import Parity, token_loss
from tests.checkpoint.released import case_inputs, case_tensors, write_tensors
from tests.media.golden_case import Case
from vidlmm.checkpoint import llava, llava_hf
from vidlmm.checkpoint.keymap import Rule
from vidlmm.checkpoint.layout import Layout, Overrides
from vidlmm.checkpoint.released import Released, open_released, understand
from vidlmm.checkpoint.weights import WeightsError
from vidlmm.generate.forward import Forward
from vidlmm.generate.items import Image, Video, prompt_of
from vidlmm.layout import Table, image_plan, video_plan
from vidlmm.spec import CLIP_MEAN
from vidlmm.spec.systems import LLAVA_ONEVISION

GOLDENS = Path(__file__).parents[1] / "goldens" / "llava_video"
PORT, ANYRES, ONE_TOKEN = (
    GOLDENS / n for n in ("05_hf_onevision_video", "04_image_anyres", "03_video_bilinear_one_token")
)
VIDEO_TOKEN, IMAGE_TOKEN = 314, 313
# The beginnings of the hub's names, and what newer transformers call them.
HUB = (
    "image_newline",
    "language_model.model.",
    "language_model.lm_head.",
    "multi_modal_projector.",
    "vision_tower.vision_model.",
)
NEWER = ("model.image_newline", "model.language_model.", "lm_head.", "model.multi_modal_projector.")
NAMES = {
    "transformers 4.52 on disk": dict(zip(HUB, (*NEWER, "model.vision_tower.vision_model."), strict=True)),
    "transformers 5 in memory": dict(zip(HUB, (*NEWER, "model.vision_tower."), strict=True)),
    "transformers 5, the hub's names otherwise": {HUB[-1]: "vision_tower."},
}


@pytest.fixture(scope="module")
def port(tmp_path_factory) -> Parity:
    return Parity(PORT, tmp_path_factory.mktemp("port"))


@pytest.fixture(scope="module")
def tensors(port) -> dict[str, np.ndarray]:
    return case_tensors(port.case)


def video(parity: Parity) -> Video:
    return Video(parity.inputs["pixel_values_0"].transpose(0, 2, 3, 1))


def renamed(tensors: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The same tensors under other beginnings."""
    found = {}
    for key, tensor in tensors.items():
        old = next((one for one in names if key.startswith(one)), "")
        found[names.get(old, "") + key.removeprefix(old)] = tensor
    return found


def spec_with(case: dict[str, Any], given: Overrides | None = None, **fields: Any) -> Any:
    """The spec of a config.json with other fields; ... leaves one out."""
    config = {name: value for name, value in {**case["config"], **fields}.items() if value is not ...}
    return understand(config, {name: tuple(shape) for name, shape in case["tensors"].items()}, given)[1]


def test_the_port_has_the_originals_embeddings_logits_and_loss(port):
    ids, labels = port.inputs["input_ids"], port.inputs["labels"][0]
    port.close("inputs_embeds", port.embeds(ids[0], [video(port)])[None])
    logits = port.model.logits(ids[0], [video(port)])
    port.close("logits", logits[None])
    port.scalar("loss", token_loss([logits], [labels]))


def test_a_placeholder_for_the_whole_video_means_the_same(port):
    ids = port.inputs["input_ids"][0]
    first, places = int(np.argmax(ids == VIDEO_TOKEN)), int((ids == VIDEO_TOKEN).sum())
    assert places == 4 * 25 + 1
    short = np.concatenate([ids[:first], [-201], ids[first + places :]])
    np.testing.assert_array_equal(port.embeds(short, [video(port)]), port.embeds(ids, [video(port)]))


@pytest.mark.parametrize("change", [lambda ids: ids[ids != VIDEO_TOKEN], lambda ids: np.append(ids, VIDEO_TOKEN)])
def test_tokens_that_are_not_the_videos_places_are_refused(port, change):
    with pytest.raises(ValueError, match=r"101 <video>: one token for each place"):
        port.model.logits(change(port.inputs["input_ids"][0]), [video(port)])


def test_pictures_and_videos_stand_in_one_row_in_any_order(port):
    shown = video(port)
    picture = Image(shown.pixels[:1])
    ids = [5, *[IMAGE_TOKEN] * 82, 6, *[VIDEO_TOKEN] * 101, *[IMAGE_TOKEN] * 82, 7]
    found = port.embeds(ids, [picture, shown, picture])
    np.testing.assert_array_equal(found[1:83], found[185:267])
    np.testing.assert_array_equal(found[82], found[184], err_msg="both end with the newline")
    with pytest.raises(ValueError, match="82 <image>, then 82 <image>, then 101 <video>"):
        port.embeds(ids, [picture, picture, shown])


@pytest.mark.parametrize("files", [1, 2])
def test_the_same_bytes_come_back(port, tensors, tmp_path, files):
    source = write_tensors(tmp_path / "source", tensors, port.case["config"], files=files)
    vidlmm.from_pretrained(source, dtype=None).save_pretrained(tmp_path / "copy")
    for path in source.iterdir():
        assert path.read_bytes() == (tmp_path / "copy" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_all_names_make_the_same_model_and_come_back(port, tensors, tmp_path, names):
    source = write_tensors(tmp_path / "source", renamed(tensors, names), port.case["config"])
    model = vidlmm.from_pretrained(source, dtype=None)
    assert model.spec == port.model.spec
    ids, shown = port.inputs["input_ids"][0], [video(port)]
    np.testing.assert_array_equal(model.logits(ids, shown), port.model.logits(ids, shown))
    model.save_pretrained(tmp_path / "copy")
    assert (source / "model.safetensors").read_bytes() == (tmp_path / "copy" / "model.safetensors").read_bytes()


def test_missing_tensors_are_told_by_the_hubs_name(port, tensors):
    shapes = {key: tuple(t.shape) for key, t in tensors.items() if key != "image_newline"}
    with pytest.raises(WeightsError, match="missing image_newline"):
        understand(port.case["config"], shapes)


def test_a_head_that_is_not_there_is_the_embedding(port):
    tied = {**port.case, "tensors": {k: v for k, v in port.case["tensors"].items() if "lm_head" not in k}}
    assert spec_with(tied).decoder.tied_head and not spec_with(port.case).decoder.tied_head


# --- the original's checkpoints under these names -------------------------------------------------------------------


def to_layout(source: Released, layout: Layout) -> dict[str, np.ndarray]:
    """A checkpoint's tensors under the first names of another layout."""
    params = source.load(None)
    found: dict[str, np.ndarray] = {}
    for rule in layout.rules(source.spec):
        if isinstance(rule, Rule):
            array = np.asarray(params[rule.ours])
            for place in np.ndindex(*array.shape[: rule.stacked]):
                keys = [names[0] for names in rule.keys(place)]
                found |= dict(zip(keys, map(np.ascontiguousarray, rule.save(array[place])), strict=True))
    return found


def port_config(case: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of the original as transformers' config.json tells of it."""
    about = case["config"]
    return {
        "model_type": "llava_onevision",
        "image_token_index": IMAGE_TOKEN,
        "video_token_index": VIDEO_TOKEN,
        "vision_aspect_ratio": about["image_aspect_ratio"],
        "image_grid_pinpoints": about["image_grid_pinpoints"],
        "text_config": {**about, "model_type": "qwen2"},
        "vision_config": case["vision_config"],
    }


@pytest.fixture(scope="module", params=[ANYRES, ONE_TOKEN], ids=["picture", "video"])
def converted(request, tmp_path_factory) -> tuple[Case, Released, Path]:
    """A case of the original, its checkpoint, and the same under transformers' names."""
    golden, folder = Case(request.param), tmp_path_factory.mktemp("converted")
    write_tensors(folder / "original", case_tensors(golden.text), golden.text["config"])
    source = open_released(folder / "original", Overrides(vision_config=golden.text["vision_config"]))
    return golden, source, write_tensors(folder / "port", to_layout(source, llava_hf.LAYOUT), port_config(golden.text))


def test_the_originals_tensors_go_to_the_port_and_back(converted):
    _, source, folder = converted
    port = open_released(folder)
    assert (port.layout.name, port.spec.tower, port.spec.decoder) == (
        "llava_hf",
        source.spec.tower,
        source.spec.decoder,
    )
    ours, theirs = source.load(None), port.load(None)
    assert set(ours) == set(theirs)
    for name, array in ours.items():
        np.testing.assert_array_equal(np.asarray(array), np.asarray(theirs[name]), err_msg=name)
    back = to_layout(port, llava.LAYOUT)
    assert set(back) | set(source.keys.unused) == set(source.folder.tensors)
    for key, tensor in back.items():
        np.testing.assert_array_equal(tensor, source.folder.tensors[key].read(), err_msg=key)


def test_the_port_shows_what_the_original_shows(converted):
    golden, _, folder = converted
    inputs = case_inputs(golden.text)
    model = vidlmm.from_pretrained(folder, dtype=None)
    pixels, ids = inputs["pixel_values_0"].transpose(0, 2, 3, 1), np.asarray(inputs["input_ids"][0])
    sizes = golden.text["settings"].get("image_sizes_wh")
    shown, token = (Image(pixels, tuple(sizes[0])), IMAGE_TOKEN) if sizes else (Video(pixels), VIDEO_TOKEN)
    at = int(np.argmax(ids < 0))
    places = golden.text["settings"]["merged_length"] - len(ids) + 1
    expanded = np.concatenate([ids[:at], np.full(places, token), ids[at + 1 :]])
    prompt = prompt_of(expanded, [shown], model.spec)
    golden.assert_close("inputs_embeds", np.asarray(Forward(model.module).embeds(prompt))[None])
    golden.assert_close("logits", model.logits(expanded, [shown])[None])


# --- what differs from the original ---------------------------------------------------------------------------------


def test_canvases_are_written_height_first(port):
    """A square picture fills two tiles side by side as well as two on top of each other: the first listed wins."""
    for height, width in ((130, 260), (260, 130)):
        spec = spec_with(port.case, image_grid_pinpoints=[[height, width], [width, height]])
        assert spec.pixels.pinpoints == ((width, height), (height, width))
        plan = image_plan(spec, 3, (130, 130))
        shown = plan.row[81:][plan.table[81:] >= Table.VISUAL]
        # 10 of 18 patches are left in the middle: the end of the first tile, the beginning of the second.
        firsts = shown[:3] - 81
        expected = [4, 5, 6] if width > height else [36, 37, 38]
        np.testing.assert_array_equal(firsts, expected)


def test_a_picture_alone_ends_with_one_newline(port):
    assert len(image_plan(port.model.spec)) == 81 + 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vision_feature_layer": [-2, -1]}, "vision_feature_layer [-2, -1]; features of one layer"),
        ({"vision_feature_layer": -5}, "vision_feature_layer -5; the vision tower has 3 layers"),
        ({"vision_feature_layer": 0}, "vision_feature_layer 0; the vision tower has 3 layers"),
        ({"vision_feature_select_strategy": "default"}, "without a class token needs 'full'"),
        ({"vision_aspect_ratio": "pad"}, "vision_aspect_ratio 'pad'"),
        ({"projector_hidden_act": "relu"}, "projector_hidden_act 'relu'"),
        ({"image_grid_pinpoints": [1, 2]}, "are no (height, width) pairs"),
        ({"vision_config": {"model_type": "dinov2"}}, "vision_config.model_type 'dinov2'; known are siglip"),
    ],
)
def test_what_is_not_known_is_refused(port, fields, message):
    with pytest.raises(WeightsError, match=re.escape(message)):
        spec_with(port.case, **fields)


def test_fields_tell_layers_tokens_and_views(port):
    spec = port.model.spec
    assert (spec.tower.layers, spec.connector.anyres_max) == (3, 9)
    assert spec.special_tokens == (("<image>", IMAGE_TOKEN), ("<video>", VIDEO_TOKEN))
    assert spec_with(port.case, vision_feature_layer=-2).tower.layers == 2
    assert spec_with(port.case, vision_feature_layer=1).tower.layers == 1
    assert spec_with(port.case, vision_aspect_ratio="anyres_max_4").connector.anyres_max == 4
    newer = {"image_token_index": ..., "video_token_index": ..., "image_token_id": 7, "video_token_id": 8}
    assert spec_with(port.case, **newer).special_tokens == (("<image>", 7), ("<video>", 8))
    silent = spec_with(port.case, image_token_index=..., video_token_index=...)
    assert silent.special_tokens == (("<image>", 151646), ("<video>", 151647))
    given = Overrides(special_tokens={"<video>": 5})
    assert spec_with(port.case, given).special_tokens == (("<image>", IMAGE_TOKEN), ("<video>", 5))


def test_a_clip_tower_leaves_its_class_token_out(port):
    tower = "vision_tower.vision_model."
    shapes = {name: tuple(shape) for name, shape in port.case["tensors"].items() if "patch_embedding.bias" not in name}
    shapes |= {f"{tower}embeddings.class_embedding": (48,), f"{tower}embeddings.position_embedding.weight": (82, 48)}
    shapes |= dict.fromkeys((f"{tower}pre_layrnorm.weight", f"{tower}pre_layrnorm.bias"), (48,))
    vision = {**port.case["vision_config"], "model_type": "clip_vision_model"}
    config = {**port.case["config"], "vision_config": vision, "vision_feature_select_strategy": "default"}
    spec = understand(config, shapes)[1]
    assert (spec.tower.class_token, spec.tower.tokens, spec.tower.activation) == (True, 81, "quick_gelu")
    assert spec.pixels.mean == CLIP_MEAN
    with pytest.raises(WeightsError, match="with a class token needs 'default'"):
        understand({**config, "vision_feature_select_strategy": "full"}, shapes)


# --- real sizes -----------------------------------------------------------------------------------------------------

# The original's names at the hub. Tokens of media fill the vocabulary up to a multiple of 64.
FROM_ORIGINAL = {
    "model.image_newline": "image_newline",
    "model.mm_projector.0.": "multi_modal_projector.linear_1.",
    "model.mm_projector.2.": "multi_modal_projector.linear_2.",
    "model.vision_tower.vision_tower.": "vision_tower.",
    "model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
}
REAL: dict[str, Any] = {
    "model_type": "llava_onevision",
    "text_config": {"model_type": "qwen2", "num_attention_heads": 14, "rope_theta": 1e6, "rms_norm_eps": 1e-6},
    "vision_config": {"model_type": "siglip_vision_model", "num_attention_heads": 16, "image_size": 384},
    "vision_aspect_ratio": "anyres_max_9",
}


def real_shapes(model: str, vocab: int) -> dict[str, tuple[int, ...]]:
    """A release of the original at its real size, as the hub names it."""
    listed = json.loads((GOLDENS.parent / "keys_llava.json").read_text())["models"][model]["tensors"]
    shapes: dict[str, tuple[int, ...]] = {}
    for name, about in renamed(listed, FROM_ORIGINAL).items():
        entry = about if isinstance(about, dict) else {"shape": about, "count": 1}
        size = (vocab, entry["shape"][1]) if "embed_tokens" in name or "lm_head" in name else tuple(entry["shape"])
        shapes |= dict.fromkeys((name.replace("{i}", str(i)) for i in range(entry["count"])), size)
    return shapes


@pytest.mark.parametrize("names", [{}, *NAMES.values()], ids=["the hub", *NAMES])
@pytest.mark.parametrize(
    ("model", "like", "vocab", "heads"),
    [("llava-onevision-qwen2-0.5b-ov", "05b", 152000, 14), ("LLaVA-Video-7B-Qwen2", "7b", 152128, 28)],
)
def test_real_sizes_are_the_published_systems(model, like, vocab, heads, names):
    shapes = renamed(real_shapes(model, vocab), names)
    config = {**REAL, "text_config": {**REAL["text_config"], "num_attention_heads": heads}}
    start = time.process_time()
    _, spec, _, keys = understand(config, shapes)
    assert time.process_time() - start < 5
    published = LLAVA_ONEVISION[like]
    assert spec.tower == published.tower
    assert spec.decoder == replace(published.decoder, vocab=vocab)
    assert spec.connector == replace(published.connector, unpadding="rounded")
    assert set(keys.origins()) | set(keys.unused) == set(shapes)
    assert {key.rsplit(".", 2)[1] for key in keys.unused} == {"post_layernorm"}
    # The original's list of canvases, read the other way round.
    assert spec.pixels.pinpoints == tuple((height, width) for width, height in published.pixels.pinpoints)
    assert len(video_plan(32, spec)) == 32 * 14 * 14 + 1


def test_borders_are_rounded_before_they_are_cut():
    """198 x 55 pixels on 54 x 54 patches leave 14.999999999999998 rows."""
    port = understand({**REAL, "image_grid_pinpoints": [[768, 768]]}, real_shapes("llava-onevision-qwen2-0.5b-ov", 1))[
        1
    ]
    original = replace(LLAVA_ONEVISION["05b"], pixels=port.pixels)
    assert len(image_plan(port, 5, (198, 55))) == 729 + 16 * 55
    assert len(image_plan(original, 5, (198, 55))) == 729 + 14 * 55
