"""VideoLLaMA 2.1 with sound: the original's numbers, video tokens before audio tokens, and the files back."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

import vidlmm
from tests.checkpoint.parity import Parity, padded, token_loss
from tests.checkpoint.released import write_folder
from tests.conftest import GOLDENS
from vidlmm.generate.items import Audio, Video, prompt_of
from vidlmm.layout import Batch, Item, Sizes, assemble, item_plan, lay_out
from vidlmm.layout.row import IGNORE
from vidlmm.spec.systems_videollama2 import VIDEOLLAMA2_1_7B_AV_RELEASED

CASE = GOLDENS / "videollama2/av_siglip_beats_qwen2_16f"
RELATIVE = "model.audio_tower.encoder.layers.{}.self_attn.relative_attention_bias.weight"


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    case = json.loads((CASE / "case.json").read_text())
    return {name: case[name] for name in ("vision_config", "audio_config")}


@pytest.fixture(scope="module")
def av(tmp_path_factory: pytest.TempPathFactory, given: dict[str, Any]) -> Parity:
    return Parity(CASE, tmp_path_factory.mktemp("av"), **given)


def shown(av: Parity) -> list[Any]:
    """A video with sound, a video alone, a sound alone."""
    seen = [np.moveaxis(av.inputs[f"pixel_values_{name}"], 1, -1) for name in ("av", "v")]
    return [Video(seen[0], av.inputs["fbank_av"]), Video(seen[1]), Audio(av.inputs["fbank_audio"])]


def rows(av: Parity, field: str = "input_ids") -> list[np.ndarray]:
    """The batch's rows without their padding."""
    held = zip(av.inputs[f"batch_{field}"], av.inputs["batch_attention_mask"], strict=True)
    return [row[mask > 0].astype(np.int32) for row, mask in held]


def test_a_video_with_sound_has_the_original_numbers(av: Parity):
    ids, media = av.inputs["input_ids_av"], shown(av)[:1]
    tower = av.model.module.tower
    assert tower is not None
    features = jax.jit(lambda frames: tower(frames))(jnp.asarray(media[0].pixels))
    av.close("vision_features", features)
    embeds = av.embeds(ids, media)
    start = ids.tolist().index(-201)
    av.close("connector_video", embeds[start : start + 32])
    av.close("audio_projected", embeds[start + 32 : start + 80])
    av.close("av_inputs_embeds", embeds)
    av.close("av_logits", av.model.logits(ids, media))
    np.testing.assert_array_equal(av.model.encode_video(media[0].pixels, media[0].audio), embeds[start : start + 80])


def test_a_sound_alone_has_the_original_numbers(av: Parity):
    ids, media = av.inputs["input_ids_audio"], shown(av)[2:]
    av.close("audio_only_inputs_embeds", av.embeds(ids, media))
    av.close("audio_only_logits", av.model.logits(ids, media))


def test_a_batch_has_the_original_numbers(av: Parity):
    ids, media = rows(av), [[medium] for medium in shown(av)]
    embeds = [av.embeds(row, held) for row, held in zip(ids, media, strict=True)]
    av.close("batch_merged_lengths", np.asarray([len(row) for row in embeds]))
    _, length = av.case["outputs"]["batch_labels_merged"]["shape"]
    av.close("batch_inputs_embeds", padded(embeds, length))
    logits = av.model.logits_batch(list(zip(ids, media, strict=True)))
    av.close("batch_logits", padded(logits, length))
    items = [Item("video", 16, sound=98), Item("video", 16), Item("audio", sound=98)]
    labels = np.full((3, length), IGNORE)
    for number, (row, wanted) in enumerate(zip(ids, rows(av, "labels"), strict=True)):
        laid = lay_out(row, wanted, [items[number]], av.model.spec)
        at = np.flatnonzero(laid.weight)
        labels[number, at + 1] = laid.target[at]
    av.close("batch_labels_merged", labels)
    av.scalar("batch_loss", token_loss(logits, list(labels)))


def test_sounds_of_different_lengths_share_a_batch(av: Parity):
    media = shown(av)
    media[2] = Audio(av.inputs["fbank_audio"][:50])
    prompts = [prompt_of(row, [held], av.model.spec) for row, held in zip(rows(av), media, strict=True)]
    sizes = Sizes(clips=3, clip_length=16, sounds=3, sound_length=112)
    tables = av.model.spec.tables(sizes.clip_length, sizes.sound_length)
    batch = assemble([(p.row, p.media) for p in prompts], 3, 112, 32, tables, sizes=sizes)

    @nnx.jit
    def logits(model: Any, arrays: dict[str, jax.Array]) -> jax.Array:
        return model.logits(model.hidden(Batch(**arrays)))

    found = logits(av.model.module, {name: jnp.asarray(value) for name, value in batch.arrays().items()})
    for number, (row, held) in enumerate(zip(rows(av), media, strict=True)):
        alone = av.model.logits(row, [held])
        np.testing.assert_allclose(found[number, : len(alone)], alone, atol=1e-4)


def test_what_is_written_back_has_the_bytes_that_were_read(av: Parity, given: dict[str, Any], tmp_path: Path):
    folder = write_folder(tmp_path / "in", av.case, files=2, dtype=np.float16)
    vidlmm.from_pretrained(folder, dtype=None, **given).save_pretrained(tmp_path / "out")
    for file in folder.glob("*.safetensors"):
        first, second = load_file(file), load_file(tmp_path / "out" / file.name)
        assert {k: v.tobytes() for k, v in first.items()} == {k: v.tobytes() for k, v in second.items()}


def test_a_trained_position_bias_is_written_to_all_its_copies(av: Parity, given: dict[str, Any], tmp_path: Path):
    model = vidlmm.from_pretrained(av.folder, dtype=None, **given)
    beats: Any = model.module.audio
    beats.relative[...] = beats.relative[...] + 1
    model.save_pretrained(tmp_path / "out")
    held, written = load_file(av.folder / "model.safetensors"), load_file(tmp_path / "out/model.safetensors")
    for layer in range(3):
        np.testing.assert_array_equal(written[RELATIVE.format(layer)], held[RELATIVE.format(0)] + 1)
    assert all(np.array_equal(written[key], held[key]) for key in held if "relative" not in key)


def test_the_released_system_spends_2848_tokens_on_a_video_with_sound():
    spec = VIDEOLLAMA2_1_7B_AV_RELEASED
    assert len(item_plan(Item("video", 16, sound=2998), spec)) == 1352 + 1496
    assert len(item_plan(Item("audio", sound=2998), spec)) == 1496
