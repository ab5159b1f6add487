"""LLaVAction: the original's heads, states and loss, the three ways to read a video, and the files back."""

import json
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import vidlmm
from tests.checkpoint.parity import Parity, padded
from tests.checkpoint.released import case_tensors, load_case, stored_part, write_tensors
from vidlmm.checkpoint.layout import Overrides
from vidlmm.checkpoint.released import understand
from vidlmm.checkpoint.weights import WeightsError
from vidlmm.generate.items import Image, Video, prompt_of
from vidlmm.layout import Batch, Item, assemble, draw, lay_out
from vidlmm.layout.row import IMAGE
from vidlmm.losses import action_loss, cross_entropy
from vidlmm.spec import ActionSpec
from vidlmm.spec.systems_llavaction import LLAVACTION_7B

FOLDER = Path(__file__).parents[1] / "goldens" / "llava_video" / "06_llavaction_one_token"
KINDS = ("verb", "noun", "action")
HEADS = tuple(f"{kind}_head.weight" for kind in KINDS)


class Original(Parity):
    """The case, its rows without padding, and the training batch of both rows."""

    def close(self, name: str, full: np.ndarray) -> None:
        """The stored part of an output is the original's; where some places are padding, at the others."""
        about, stored = self.case["outputs"][name], self.golden.arrays
        full = np.asarray(full, np.float32)
        assert list(full.shape) == about["shape"], name
        if "valid" in about:
            full = full * stored[about["valid"]][..., None]
        worst = np.abs(stored_part(full, about) - stored[name]).max()
        assert worst < self.golden.tolerance / 4, (name, worst)

    @cached_property
    def rows(self) -> list[tuple[np.ndarray, list]]:
        ids, masks = self.inputs["input_ids"], self.inputs["attention_mask"].astype(bool)
        videos = [self.inputs[f"pixel_values_{number}"].transpose(0, 2, 3, 1) for number in range(len(ids))]
        return [(row[mask], [Video(video)]) for row, mask, video in zip(ids, masks, videos, strict=True)]

    @cached_property
    def batch(self) -> Batch:
        spec, samples = self.model.spec, []
        for (ids, media), labels, mask in zip(
            self.rows, self.inputs["labels"], self.inputs["attention_mask"].astype(bool), strict=True
        ):
            item = Item("video", len(media[0].pixels))
            row = lay_out(ids.astype(np.int32), labels[mask].astype(np.int32), [item], spec)
            samples.append((row, prompt_of(ids, media, spec).media))
        length = max(len(row) for row, _ in samples)
        return assemble(samples, len(samples), length, sum(row.frames for row, _ in samples), spec.tables())

    @cached_property
    def found(self) -> dict[str, np.ndarray]:
        """Hidden states, states and scores of every layer, and both losses, in one program."""
        graph, params = nnx.split(self.model.module)

        @jax.jit
        def run(params: Any, arrays: dict[str, Any], classes: jax.Array) -> dict[str, Any]:
            model = nnx.merge(graph, params)
            hidden, states, shown = model.action_states(Batch(**arrays))
            flat, target = hidden.reshape(-1, hidden.shape[-1]), arrays["target"].reshape(-1)
            loss, weight, _ = cross_entropy(flat, model.head_matrix(), target, arrays["weight"].reshape(-1), chunk=64)
            heads, action = model.action_heads, model.spec.action
            assert heads is not None and action is not None
            extra = action_loss(states, heads, classes, shown, action.training)
            scores = heads(states)
            return {"hidden": hidden, "shown": shown, "lm": loss / weight, "extra": extra, **scores}

        return jax.device_get(run(params, self.batch.arrays(), jnp.asarray(self.inputs["actions"])))


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Original:
    given = load_case(FOLDER)[0]["vision_config"]
    return Original(FOLDER, tmp_path_factory.mktemp("llavaction"), vision_config=given)


@pytest.fixture(scope="module")
def case() -> dict[str, Any]:
    return load_case(FOLDER)[0]


def test_a_checkpoint_is_told_by_its_config_and_tensors(original):
    spec = original.model.spec
    assert spec.name == "llavaction"
    assert spec.action == ActionSpec((("verb", 7), ("noun", 11), ("action", 23)), "one_token", "last_layer")
    assert (spec.frames.rule, spec.frames.count, spec.frames.time_text) == ("midpoints", 16, "llavaction")


def test_the_learned_token_stands_right_after_the_video(original):
    original.close("inputs_embeds", padded([original.embeds(*row) for row in original.rows]))
    for number, (ids, media) in enumerate(original.rows):
        row = prompt_of(ids, media, original.model.spec).row
        assert len(row) == original.case["settings"]["merged_lengths_per_row"][number]
        place = int(original.golden.arrays["action_idx"][number, 0])
        assert draw(row).count("a") == 1
        assert (row.table[place], row.row[place]) == (2, 2)
        video = np.asarray(original.model.encode_video(media[0].pixels))
        np.testing.assert_array_equal(video[-1], original.embeds(ids, media)[place])


def test_scores_of_text_and_heads_are_the_originals(original):
    logits = original.model.logits_batch(original.rows)
    original.close("logits", padded(logits))
    for number, scores in enumerate(logits):
        _, start, end = original.case["settings"]["row_tails"][f"logits_row_{number}"]
        original.close(f"logits_row_{number}", scores[start:end])
    found = [original.model.action_logits(*row) for row in original.rows]
    for kind in KINDS:
        original.close(f"{kind}_logits", np.stack([one[kind] for one in found]))


def test_states_of_every_layer_score_as_the_originals(original):
    for kind in KINDS:
        original.close(f"{kind}_logits_all_layers", original.found[kind])
    assert original.found["shown"].all()
    original.close("last_hidden", original.found["hidden"])


def test_both_losses_are_the_originals(original):
    original.scalar("lm_loss", float(original.found["lm"]))
    original.scalar("loss", float(original.found["lm"] + original.found["extra"]))


def test_without_a_video_or_heads_there_is_no_action_to_name(original):
    with pytest.raises(ValueError, match="shows no video"):
        original.model.action_logits([1, 2, 3], [])
    picture = Image(np.zeros((1, 130, 130, 3), np.float32), (130, 130))
    with pytest.raises(ValueError, match="shows no video"):
        original.model.action_logits([1, IMAGE, 3], [picture])


def test_the_same_bytes_come_back(case, tmp_path):
    source = write_tensors(tmp_path / "source", case_tensors(case), case["config"], files=2)
    model = vidlmm.from_pretrained(source, dtype=None, vision_config=case["vision_config"])
    model.save_pretrained(tmp_path / "copy")
    for path in source.iterdir():
        assert path.read_bytes() == (tmp_path / "copy" / path.name).read_bytes(), path.name


def other(case: dict[str, Any], rows: int | None, **config: Any) -> Any:
    """What is understood of the case with other learned rows and fields; ... removes a field."""
    fields = {name: value for name, value in (case["config"] | config).items() if value is not ...}
    shapes = {name: tuple(shape) for name, shape in case["tensors"].items() if name != "model.action_supervision"}
    if rows is not None:
        shapes["model.action_supervision"] = (rows, 64)
    return understand(fields, shapes, Overrides(vision_config=case["vision_config"]))


@pytest.mark.parametrize(
    ("rows", "config", "supervision"),
    [
        (3, {"vision_supervision": "three_tokens"}, "three_tokens"),
        (3, {"vision_supervision": ...}, "three_tokens"),
        (1, {"vision_supervision": ...}, "one_token"),
        (None, {"vision_supervision": "newline"}, "newline"),
        (None, {"vision_supervision": ...}, "newline"),
        (1, {"vision_supervision": "newline"}, "newline"),
    ],
)
def test_which_places_are_read_comes_from_config_else_from_the_tensors(case, rows, config, supervision):
    _, spec, _, keys = other(case, rows, **config)
    assert spec.action.supervision == supervision
    assert ("connector.action_tokens" in keys.parts) is (supervision != "newline")


@pytest.mark.parametrize(
    ("told", "training"),
    [
        (..., "last_layer"),
        ("first_layer", "first_layer"),
        ("all_layers", "all_layers"),
        ("normal_distillation", "distillation"),
        ("reverse_distillation", "reverse_distillation"),
    ],
)
def test_what_the_loss_reads_comes_from_config(case, told, training):
    assert other(case, 1, vision_token_training=told)[1].action.training == training


def test_classes_come_from_the_heads_whatever_config_says(case):
    wrong = other(case, 1, action_types="1,2,3")[1]
    assert other(case, 1, action_types=...)[1] == wrong
    assert wrong.action.types == (("verb", 7), ("noun", 11), ("action", 23))


@pytest.mark.parametrize(
    ("rows", "config", "message"),
    [
        (1, {"vision_supervision": "all_newlines"}, "all_newlines' with .* is not known; known are one_token"),
        (2, {"vision_supervision": ...}, r"None with model.action_supervision \[2, 64\] is not known"),
        (1, {"vision_supervision": "three_tokens"}, r"action_supervision is \[1, 64\], the model has \[3, 64\]"),
        (None, {"vision_supervision": "one_token"}, "missing model.action_supervision"),
        (None, {"vision_supervision": "newline", "mm_newline_position": "no_token"}, "no newline follows a video"),
        (1, {"vision_token_training": "half"}, "vision_token_training 'half' is not known; known are last_layer"),
    ],
)
def test_faults_are_told(case, rows, config, message):
    with pytest.raises(WeightsError, match=message):
        other(case, rows, **config)


def test_a_missing_head_is_named(case):
    shapes = {name: tuple(shape) for name, shape in case["tensors"].items() if name != HEADS[1]}
    with pytest.raises(WeightsError, match=r"missing noun_head\.weight"):
        understand(case["config"], shapes, Overrides(vision_config=case["vision_config"]))


@pytest.mark.parametrize("supervision", ["three_tokens", "newline"])
def test_other_supervisions_read_other_places(original, case, tmp_path, supervision):
    tensors = case_tensors(case)
    learned = tensors.pop("model.action_supervision")
    if supervision == "three_tokens":
        tensors["model.action_supervision"] = np.concatenate([learned, 2 * learned, -learned])
    config = case["config"] | {"vision_supervision": supervision}
    folder = write_tensors(tmp_path / supervision, tensors, config)
    model = vidlmm.from_pretrained(folder, dtype=None, vision_config=case["vision_config"])
    ids, media = original.rows[0]
    places = prompt_of(ids, media, model.spec).row
    first = int(original.golden.arrays["action_idx"][0, 0]) - (supervision == "newline")
    read = [first, first + 1, first + 2] if supervision == "three_tokens" else [first] * 3
    np.testing.assert_array_equal(np.flatnonzero((places.table == 2) & (places.row >= 2)), sorted(set(read)))
    embeds = np.asarray(model._forward.embeds(prompt_of(ids, media, model.spec)))
    video = len(model.encode_video(media[0].pixels))
    assert read[-1] == int(np.flatnonzero(ids == IMAGE)[0]) + video - 1
    if supervision == "newline":
        np.testing.assert_array_equal(embeds[first], tensors["model.image_newline"])
    ours = model.action_logits(ids, media)
    decoder, length = model.module.decoder, embeds.shape[0]
    inside = jnp.ones((1, length), jnp.int32)
    hidden = decoder(jnp.asarray(embeds)[None], jnp.arange(length)[None], inside, 0 * inside)[0]
    for kind, place in zip(KINDS, read, strict=True):
        np.testing.assert_allclose(ours[kind], np.asarray(hidden[place]) @ tensors[f"{kind}_head.weight"].T, atol=1e-4)


def test_a_model_without_heads_says_so(original):
    plain = replace(original.model.spec, action=None)
    module = vidlmm.VideoLM(plain, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="has no action heads"):
        vidlmm.api.Model(module, None).action_logits([1, 2], [])
    with pytest.raises(ValueError, match="has no action heads"):
        module.action_states(original.batch)


def test_the_released_model_is_the_published_system(case):
    listed = json.loads((FOLDER.parents[1] / "keys_llava.json").read_text())["models"]["LLaVAction-7B"]
    shapes = {}
    for name, about in listed["tensors"].items():
        one = about if isinstance(about, dict) else {"shape": about, "count": 1}
        shapes |= {name.replace("{i}", str(i)): tuple(one["shape"]) for i in range(one["count"])}
    pinpoints = [[384 * a, 384 * b] for a in range(1, 7) for b in range(1, 7)]
    config = case["config"] | listed["language_model"] | {"image_grid_pinpoints": pinpoints, "action_types": ""}
    assert understand(config, shapes)[1] == LLAVACTION_7B
