"""Decoders alone: the numbers that text has in the systems built on them, the files back, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vidlmm
from tests.checkpoint.released import case_tensors, load_case, write_tensors
from tests.conftest import GOLDENS
from tests.generate import systems
from vidlmm.checkpoint.released import find_layout, understand
from vidlmm.checkpoint.weights import WeightsError
from vidlmm.generate.items import Video
from vidlmm.spec import SYSTEMS, from_json, to_json

# Systems whose decoder is taken out, and its model type.
DECODERS = {
    "llava_video": "qwen2",
    "valley": "llama",
    "videollama2_mistral": "mistral",
    "videollama2_mixtral": "mixtral",
}
SEES = ("tower", "projector", "newline", "faster", "pooling", "delta", "transforemr", "position_matrix")
IDS = list(range(5, 40))


def alone(name: str, **fields: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The decoder's tensors of a system, and its config.json."""
    case, _ = load_case(GOLDENS / systems.CASES[name])
    tensors = {key: tensor for key, tensor in case_tensors(case).items() if not any(part in key for part in SEES)}
    config = {key: value for key, value in case["config"].items() if not key.startswith(("mm_", "architectures"))}
    return tensors, config | {"model_type": DECODERS[name]} | fields


def spec_with(name: str, **fields: Any) -> Any:
    tensors, config = alone(name, **fields)
    config = {key: value for key, value in config.items() if value is not ...}
    return understand(config, {key: tuple(tensor.shape) for key, tensor in tensors.items()})[1]


@pytest.mark.parametrize("name", DECODERS)
def test_text_has_the_numbers_that_it_has_in_the_system(name: str, tmp_path: Path):
    source = write_tensors(tmp_path / "source", *alone(name))
    model = vidlmm.from_pretrained(source, dtype=None)
    assert (model.spec.name, model.spec.text_only, model.spec.tables()) == (DECODERS[name], True, ())
    whole = systems.model(name)
    assert not whole.spec.text_only
    np.testing.assert_allclose(model.logits(IDS), whole.logits(IDS), rtol=0, atol=2e-5)
    model.save_pretrained(tmp_path / "copy")
    for path in source.iterdir():
        assert path.read_bytes() == (tmp_path / "copy" / path.name).read_bytes(), path.name


def test_media_are_refused(tmp_path: Path):
    model = vidlmm.from_pretrained(write_tensors(tmp_path, *alone("llava_video")), dtype=None)
    pixels = np.zeros((2, model.spec.pixels.size, model.spec.pixels.size, 3), np.float32)
    with pytest.raises(ValueError, match="qwen2 reads text alone; leave the media away"):
        model.logits([5, -201, 6], [Video(pixels)])
    with pytest.raises(ValueError, match="qwen2 reads text alone"):
        model.encode_video(pixels)


def test_a_spec_without_a_tower_comes_back_from_its_text():
    spec = spec_with("llava_video")
    assert from_json(to_json(spec)) == spec


def test_a_model_that_sees_is_not_taken_for_a_decoder():
    case, _ = load_case(GOLDENS / systems.CASES["llava_video"])
    config = case["config"] | {"model_type": "qwen2"}
    with pytest.raises(WeightsError, match="no known layout"):
        find_layout(config, case["tensors"], "it")


def test_tensors_that_are_not_a_decoders_are_listed():
    tensors, config = alone("llava_video")
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()} | {"model.layers.0.self_attn.q_norm": (16,)}
    with pytest.raises(WeightsError, match=r"unexpected model.layers.0.self_attn.q_norm"):
        understand(config, shapes)


@pytest.mark.parametrize(
    ("name", "fields", "length"),
    [
        ("videollama2_mistral", {"sliding_window": None}, 32768),
        ("videollama2_mistral", {"sliding_window": 1024}, 1024),
        ("videollama2_mistral", {"sliding_window": ...}, 4096),
        ("videollama2_mistral", {"sliding_window": None, "max_position_embeddings": ...}, 131072),
        ("videollama2_mixtral", {"sliding_window": ...}, 32768),
        ("llava_video", {"max_position_embeddings": 32768, "sliding_window": 128}, 32768),
        ("llava_video", {"max_position_embeddings": 32768, "sliding_window": 128, "use_sliding_window": True}, 128),
        (
            "llava_video",
            {
                "max_position_embeddings": 32768,
                "sliding_window": 128,
                "use_sliding_window": True,
                "layer_types": ["full_attention"] * 3,
            },
            32768,
        ),
    ],
)
def test_no_more_is_read_than_a_window_of_attention_holds(name: str, fields: dict[str, Any], length: int):
    fields = {"use_sliding_window": ..., **fields}
    assert spec_with(name, **fields).decoder.max_length == length


@pytest.mark.parametrize("name", ["rope_scaling", "rope_parameters"])
def test_scaled_rotary_embeddings_are_refused(name: str):
    for kind in ("rope_type", "type"):
        with pytest.raises(WeightsError, match=f"{name} 'linear'"):
            spec_with("llava_video", **{name: {kind: "linear", "factor": 2.0, "rope_theta": 1e6}})
    assert spec_with("llava_video", **{name: None}) == spec_with("llava_video", **{name: ...})


def test_the_base_of_rotary_embeddings_is_read_from_both_places():
    newer = spec_with("valley", rope_theta=..., rope_parameters={"rope_type": "default", "rope_theta": 7e4})
    assert newer.decoder.rope_base == spec_with("valley", rope_theta=7e4).decoder.rope_base == 7e4
    assert spec_with("valley", rope_theta=...).decoder.rope_base == 1e4
    assert spec_with("videollama2_mixtral", rope_theta=...).decoder.rope_base == 1e6


def real_shapes(model: str) -> dict[str, tuple[int, ...]]:
    """The decoder of a released model at its real size."""
    listed = json.loads((GOLDENS / "keys_llava.json").read_text())["models"][model]["tensors"]
    shapes: dict[str, tuple[int, ...]] = {}
    for key, about in listed.items():
        entry = about if isinstance(about, dict) else {"shape": about, "count": 1}
        if not any(part in key for part in SEES):
            shapes |= {key.replace("{i}", str(i)): tuple(entry["shape"]) for i in range(entry["count"])}
    return shapes


def test_a_real_decoder_is_planned_from_names_and_shapes():
    shapes = real_shapes("LLaVA-Video-7B-Qwen2")
    config = {"model_type": "qwen2", "num_attention_heads": 28, "rope_theta": 1e6, "use_sliding_window": False}
    _, spec, _, keys = understand(config, shapes)
    whole = SYSTEMS["llava_video_7b"].decoder
    assert spec.decoder == whole
    assert set(keys.origins()) == set(shapes)
