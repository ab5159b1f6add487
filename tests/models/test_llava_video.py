"""Parity with the original LLaVA-Video code through the public path: tower, projector, merged input, logits, loss."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

import vidlmm
from tests.checkpoint.released import case_inputs, load_case, stored_part, write_folder
from tests.goldens.seeded import seeded_uniform
from vidlmm.generate.items import prompt_of, taken
from vidlmm.layout import assemble, lay_out
from vidlmm.losses import cross_entropy
from vidlmm.models.pooling import pool

CASES = [
    "01_video_bilinear_grid",
    "02_video_average_slowfast",
    "03_video_bilinear_one_token",
    "04_image_anyres",
    "09_video_average_grid",
    "16_stray_config",
]
MIXED = "11_batch_mixed_with_loss"


def load(name: str, goldens: Path, folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], vidlmm.Model]:
    case, stored = load_case(goldens / "llava_video" / name)
    path = write_folder(folder, case, files=2)
    return case, stored, vidlmm.from_pretrained(path, dtype="float32", vision_config=case["vision_config"])


def rows_of(case: dict[str, Any]) -> list[tuple[np.ndarray, list]]:
    """Token ids and media of every row; a row without a placeholder uses up one dummy picture."""
    inputs, settings = case_inputs(case), case["settings"]
    rows, number = [], 0
    for ids, mask in zip(
        inputs["input_ids"], inputs.get("attention_mask", np.ones_like(inputs["input_ids"])), strict=True
    ):
        own, media = ids[mask == 1], []
        for _ in range(max(1, int((own == -200).sum()))):
            pixels = inputs[f"pixel_values_{number}"].transpose(0, 2, 3, 1)
            if settings["modalities"][number] == "video":
                media.append(vidlmm.Video(pixels))
            elif settings["modalities"][number] == "image":
                media.append(vidlmm.Image(pixels, tuple(settings["image_sizes_wh"][number])))
            number += 1
        rows.append((own, media))
    return rows


def compare(case: dict[str, Any], stored: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    """The stored part of every output, and the means of the whole, to the case's tolerance."""
    for output, full in found.items():
        about = case["outputs"][output]
        full = np.asarray(full, np.float32)
        assert list(full.shape) == about["shape"], output
        worst = np.max(np.abs(stored_part(full, about) - stored[output]))
        print(f"{case['case']} {output}: largest difference {worst:.2e}")
        assert worst < case["tolerance"] / 4, output
        if f"{output}_mean" in stored and "valid" not in about:
            assert abs(full.mean(dtype=np.float64) - stored[f"{output}_mean"]) < case["tolerance"], output


@pytest.mark.parametrize("name", CASES)
def test_every_stage_gives_the_original_numbers(name: str, goldens: Path, tmp_path: Path) -> None:
    case, stored, model = load(name, goldens, tmp_path)
    [(ids, media)] = rows_of(case)
    logits = model.logits(ids, media)
    assert len(logits) == case["settings"]["merged_length"]
    prompt = prompt_of(ids, media, model.spec)
    assert model.module.tower is not None
    graph, params = nnx.split(model.module)

    @jax.jit
    def stages(params: Any, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
        whole = nnx.merge(graph, params)
        assert whole.tower is not None
        features = whole.tower(frames)
        return features, whole.connector.project(features)

    features, projected = stages(params, prompt.frames)
    embeds = model._forward.embeds(prompt)
    found = {"vision_features": features, "projected_features": projected, "inputs_embeds": embeds[None]}
    compare(case, stored, found | {"logits": logits[None]})
    if isinstance(media[0], vidlmm.Video):
        before = int(np.flatnonzero(ids == -200)[0])
        video = np.asarray(model.encode_video(media[0].pixels))
        np.testing.assert_allclose(video, embeds[before : before + len(video)], atol=1e-6)
        assert len(video) == len(embeds) - len(ids) + 1


def test_a_mixed_batch_gives_the_original_numbers_and_loss(goldens: Path, tmp_path: Path) -> None:
    case, stored, model = load(MIXED, goldens, tmp_path)
    rows = rows_of(case)
    found = model.logits_batch(rows)
    assert [len(logits) for logits in found] == case["settings"]["merged_lengths_per_row"]
    for number, logits in enumerate(found):
        _, start, end = case["settings"]["row_tails"][f"logits_row_{number}"]
        assert np.abs(logits[start:end] - stored[f"logits_row_{number}"]).max() < case["tolerance"] / 4
    alone = model.logits(*rows[2])
    np.testing.assert_allclose(alone, found[2], atol=1e-5)
    whole = np.zeros(case["outputs"]["logits"]["shape"], np.float32)
    for number, logits in enumerate(found):
        whole[number, : len(logits)] = logits
    compare(case, stored, {"logits": whole})
    loss = training_loss(model, case, rows)
    assert abs(loss - stored["loss"].item()) < case["tolerance"] / 4


def training_loss(model: vidlmm.Model, case: dict[str, Any], rows: list) -> float:
    """The mean loss of the batch through one training batch of all rows."""
    inputs = case_inputs(case)
    samples = []
    for number, (ids, media) in enumerate(rows):
        labels = inputs["labels"][number][inputs["attention_mask"][number] == 1].astype(np.int32)
        items = [taken(place, medium, model.spec)[2] for place, medium in enumerate(media)]
        row = lay_out(ids.astype(np.int32), labels, items, model.spec)
        samples.append((row, prompt_of(ids, media, model.spec).media))
    length, frames = max(len(row) for row, _ in samples), sum(row.frames for row, _ in samples)
    batch = assemble(samples, len(samples), length, frames, model.spec.tables())
    graph, params = nnx.split(model.module)

    @jax.jit
    def mean(params: Any, arrays: dict[str, Any]) -> jax.Array:
        whole = nnx.merge(graph, params)
        hidden = whole.hidden(type(batch)(**arrays))
        flat, target = hidden.reshape(-1, hidden.shape[-1]), arrays["target"].reshape(-1)
        loss, weight, _ = cross_entropy(flat, whole.head_matrix(), target, arrays["weight"].reshape(-1), chunk=64)
        return loss / weight

    return float(mean(params, batch.arrays()))


def test_pooling_gives_the_original_numbers(goldens: Path) -> None:
    folder = goldens / "llava_video" / "14_pool_27"
    case = json.loads((folder / "case.json").read_text())
    features = seeded_uniform(1, "features", (1, 729, 8)).astype(np.float32)
    with np.load(folder / "case.npz") as stored:
        for name in case["outputs"]:
            mode, stride = name.split("_")
            ours = np.asarray(pool(jax.numpy.asarray(features), mode, int(stride)))
            assert ours.shape == stored[name].shape
            assert np.max(np.abs(ours - stored[name])) < case["tolerance"], name
