"""Parity with the original LLaVA-Video code: tower, projector, pooling, merged input, decoder, logits."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from tests.goldens.seeded import seeded_uniform
from tests.models.released import case_inputs, case_spec, load_case, load_weights
from vidlmm.layout import assemble, merge, video_plan
from vidlmm.models import VideoLM
from vidlmm.models.pooling import pool

CASES = ["01_video_bilinear_grid", "02_video_average_slowfast", "03_video_bilinear_one_token", "09_video_average_grid"]


@pytest.mark.parametrize("name", CASES)
def test_every_stage_gives_the_original_numbers(name: str, goldens: Path):
    case, stored = load_case(goldens / "llava_video" / name)
    spec, inputs = case_spec(case), case_inputs(case)
    graph, params = nnx.split(load_weights(VideoLM(spec, rngs=nnx.Rngs(0)), case))
    frames = inputs["frames_0"]
    row = merge(inputs["input_ids"][0].astype(np.int32), None, [video_plan(len(frames), spec)])
    assert len(row) == case["settings"]["merged_length"]
    # One row of padding places and one frame that nothing looks at change nothing.
    batch = assemble([(row, frames)], rows=1, length=len(row) + 5, frames=len(frames) + 1, grids=spec.grids)

    @jax.jit
    def run(params, arrays):
        model, seen = nnx.merge(graph, params), type(batch)(**arrays)
        features = model.tower(seen.frames)
        hidden = model.hidden(seen)
        return {
            "vision_features": features,
            "projected_features": model.connector.project(features),
            "inputs_embeds": model.embed(seen),
            "last_hidden": hidden,
            "logits": model.logits(hidden),
        }

    found = run(params, batch.arrays())
    for output, about in case["outputs"].items():
        full = np.asarray(found[output])[tuple(slice(0, n) for n in about["shape"])]
        ours = eval(f"full{about['slice']}", {"full": full})
        worst = np.max(np.abs(ours - stored[output]))
        print(f"{name} {output}: largest difference {worst:.2e}")
        assert worst < case["tolerance"] / 4, output
        assert abs(full.mean(dtype=np.float64) - stored[f"{output}_mean"]) < case["tolerance"], output


def test_pooling_gives_the_original_numbers(goldens: Path):
    folder = goldens / "llava_video" / "14_pool_27"
    case = json.loads((folder / "case.json").read_text())
    features = seeded_uniform(1, "features", (1, 729, 8)).astype(np.float32)
    with np.load(folder / "case.npz") as stored:
        for name in case["outputs"]:
            mode, stride = name.split("_")
            ours = np.asarray(pool(jax.numpy.asarray(features), mode, int(stride)))
            assert ours.shape == stored[name].shape
            assert np.max(np.abs(ours - stored[name])) < case["tolerance"], name
