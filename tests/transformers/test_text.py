"""Decoders alone: Qwen2, Llama, Mistral and Mixtral of transformers, there and back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vidlmm
from tests.transformers import theirs
from vidlmm.checkpoint.released import open_released
from vidlmm.checkpoint.weights import WeightsError
from vidlmm.generate.items import Medium
from vidlmm.spec import ModelSpec

SIZES = {
    "vocab_size": 131,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e4}}
IDS = np.random.default_rng(5).integers(0, 131, 24).tolist()
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", {**ROPE, "rms_norm_eps": 1e-5}),
    "qwen2, tied": ("Qwen2", {"tie_word_embeddings": True}),
    "llama": ("Llama", {}),
    "llama, head_dim apart": ("Llama", {**ROPE, "head_dim": 24}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral, head_dim and window": ("Mistral", {**ROPE, "head_dim": 24, "sliding_window": 24}),
    "mixtral": ("Mixtral", {"num_local_experts": 5, "num_experts_per_tok": 2}),
    "mixtral, top 3": ("Mixtral", {**ROPE, "num_local_experts": 4, "num_experts_per_tok": 3}),
}


def decoder(kind: str, **fields: Any) -> Any:
    config = getattr(theirs.transformers, f"{kind}Config")(**{**SIZES, **fields})
    return theirs.made(f"{kind}ForCausalLM", config)


def asked(spec: ModelSpec) -> tuple[list[int], list[Medium], dict[str, np.ndarray]]:
    return IDS, [], {}


@pytest.mark.parametrize("name", CASES)
def test_there_and_back(name: str, tmp_path: Path):
    kind, fields = CASES[name]
    model = theirs.check_there_and_back(decoder(kind, **fields), tmp_path, asked)
    assert (model.spec.name, model.spec.text_only) == (kind.lower(), True)
    assert model.spec.decoder.tied_head == fields.get("tie_word_embeddings", False)
    assert model.spec.decoder.dim_per_head == fields.get("head_dim", 16)


@pytest.mark.parametrize("kind", ["Qwen2", "Mistral"])
def test_a_rope_base_at_the_top_of_config_json_means_the_same(kind: str, tmp_path: Path):
    model = decoder(kind, **ROPE, **({"sliding_window": None} if kind == "Mistral" else {}))
    model.save_pretrained(tmp_path / "newer")
    older = theirs.rewritten(tmp_path / "newer", tmp_path / "older", {}, rope_parameters=..., rope_theta=5e4)
    theirs.check_read_and_back(model, older, tmp_path / "ours", asked)


def test_fields_that_config_json_leaves_out_are_those_of_the_class(tmp_path: Path):
    """transformers writes no field that has its class's own value."""
    for kind in ("Qwen2", "Llama", "Mistral", "Mixtral"):
        known = json.loads(getattr(theirs.transformers, f"{kind}Config")().to_json_string(use_diff=False))
        folder = tmp_path / kind
        model = decoder(kind)
        model.save_pretrained(folder)
        fields = json.loads((folder / "config.json").read_text())
        own = {name: value for name, value in fields.items() if name in SIZES or name == "model_type"}
        (folder / "config.json").write_text(json.dumps(own))
        spec = open_released(folder).spec.decoder
        assert spec.norm_eps == known["rms_norm_eps"]
        assert spec.rope_base == (known.get("rope_parameters") or {}).get("rope_theta", known.get("rope_theta")), kind
        if kind == "Mixtral":
            assert spec.top_k == known["num_experts_per_tok"]


def test_beyond_the_window_nothing_is_said(tmp_path: Path):
    """Within its window a token sees everything before it; further on the numbers would be others."""
    theirs_here = decoder("Mistral", sliding_window=16)
    theirs_here.save_pretrained(tmp_path)
    model = vidlmm.from_pretrained(tmp_path, dtype=None)
    assert model.spec.decoder.max_length == 16
    theirs.check_close(model.logits(IDS[:16]), theirs.said(theirs_here, IDS[:16]))
    with pytest.raises(ValueError, match="it has 17 places, the model reads 16"):
        model.logits(IDS[:17])


def test_scaled_rotary_embeddings_are_refused(tmp_path: Path):
    scaled = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}
    decoder("Llama", rope_parameters=scaled).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="rope_parameters 'linear'; rotary embeddings that are not scaled are known"):
        vidlmm.from_pretrained(tmp_path)
