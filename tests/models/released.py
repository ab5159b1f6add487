"""Reference cases in the original key names: their spec, their inputs, their weights in our arrays."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from tests.goldens import seeded
from vidlmm.models import VideoLM
from vidlmm.spec import ConnectorSpec, DecoderSpec, ModelSpec, PixelSpec, SlowFastSpec, TowerSpec


def load_case(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """case.json and the stored numbers."""
    case = json.loads((folder / "case.json").read_text())
    with np.load(folder / "case.npz") as stored:
        return case, dict(stored)


def case_spec(case: dict[str, Any]) -> ModelSpec:
    """The ModelSpec of a LLaVA-NeXT config.json and the tower sizes beside it."""
    config, vision = case["config"], case["vision_config"]
    slow = SlowFastSpec(config["faster_token_stride"]) if config["add_faster_video"] else None
    return ModelSpec(
        name=case["case"],
        tower=TowerSpec(
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            width=vision["hidden_size"],
            layers=vision["layers_in_checkpoint"],
            heads=vision["num_attention_heads"],
            mlp=vision["intermediate_size"],
            norm_eps=vision["layer_norm_eps"],
        ),
        connector=ConnectorSpec(
            pool_mode=config["mm_spatial_pool_mode"],
            pool_stride=config["mm_spatial_pool_stride"],
            newline=config["mm_newline_position"],
            slowfast=slow,
        ),
        decoder=DecoderSpec(
            vocab=config["vocab_size"],
            width=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            mlp=config["intermediate_size"],
            rope_base=config["rope_theta"],
            norm_eps=config["rms_norm_eps"],
            tied_head=config["tie_word_embeddings"],
        ),
        pixels=PixelSpec(size=vision["image_size"]),
    )


def case_inputs(case: dict[str, Any]) -> dict[str, np.ndarray]:
    """The case's inputs: the expressions are the repository's own files."""
    known: dict[str, Any] = {"np": np, "seeded_uniform": seeded.seeded_uniform, "seeded_tensor": seeded.seeded_tensor}
    for name, value in case["inputs"].items():
        known[name] = eval(value, {"__builtins__": {}}, known) if isinstance(value, str) else np.array(value)
    return {name: known[name] for name in case["inputs"]}


def load_weights(model: VideoLM, case: dict[str, Any]) -> VideoLM:
    """The model with the case's seeded weights in place of its own."""
    shapes = case["tensors"]

    def get(key: str) -> np.ndarray:
        return seeded.seeded_tensor(case["seed"], key, tuple(shapes[key]))

    values = tower_weights(get, model) | connector_weights(get) | decoder_weights(get, model)
    if "lm_head.weight" in shapes:
        values["decoder", "head"] = get("lm_head.weight")
    if "model.faster_token" in shapes:
        values["connector", "faster_token"] = get("model.faster_token")
    graph, params = nnx.split(model)
    flat = dict(nnx.to_flat_state(params))
    assert set(flat) == set(values), set(flat) ^ set(values)
    for path, value in values.items():
        assert flat[path].shape == value.shape, (path, flat[path].shape, value.shape)
        flat[path] = flat[path].replace(value)
    return nnx.merge(graph, nnx.from_flat_state(flat))


def connector_weights(get: Any) -> dict[tuple, np.ndarray]:
    return {
        ("connector", "fc1"): get("model.mm_projector.0.weight").T,
        ("connector", "fc1_bias"): get("model.mm_projector.0.bias"),
        ("connector", "fc2"): get("model.mm_projector.2.weight").T,
        ("connector", "fc2_bias"): get("model.mm_projector.2.bias"),
        ("connector", "newline"): get("model.image_newline"),
    }


def tower_weights(get: Any, model: VideoLM) -> dict[tuple, np.ndarray]:
    spec, root = model.spec.tower, "model.vision_tower.vision_tower.vision_model."
    patch = get(root + "embeddings.patch_embedding.weight")

    def stack(name: str) -> np.ndarray:
        return np.stack([get(f"{root}encoder.layers.{i}.{name}") for i in range(spec.layers)])

    def heads(kind: str) -> np.ndarray:
        parts = [stack(f"self_attn.{n}_proj.{kind}") for n in "qkv"]
        if kind == "weight":
            parts = [np.swapaxes(p, 1, 2) for p in parts]
        return np.concatenate([p.reshape(*p.shape[:-1], spec.heads, -1) for p in parts], axis=-1)

    out = np.swapaxes(stack("self_attn.out_proj.weight"), 1, 2)
    layers = {
        "norm1_scale": stack("layer_norm1.weight"),
        "norm1_bias": stack("layer_norm1.bias"),
        "qkv": heads("weight"),
        "qkv_bias": heads("bias"),
        "out": out.reshape(spec.layers, spec.heads, -1, spec.width),
        "out_bias": stack("self_attn.out_proj.bias"),
        "norm2_scale": stack("layer_norm2.weight"),
        "norm2_bias": stack("layer_norm2.bias"),
        "up": np.swapaxes(stack("mlp.fc1.weight"), 1, 2),
        "up_bias": stack("mlp.fc1.bias"),
        "down": np.swapaxes(stack("mlp.fc2.weight"), 1, 2),
        "down_bias": stack("mlp.fc2.bias"),
    }
    return {("tower", "layers", name): value for name, value in layers.items()} | {
        ("tower", "patch"): patch.transpose(2, 3, 1, 0).reshape(-1, spec.width),
        ("tower", "patch_bias"): get(root + "embeddings.patch_embedding.bias"),
        ("tower", "position"): get(root + "embeddings.position_embedding.weight"),
    }


def decoder_weights(get: Any, model: VideoLM) -> dict[tuple, np.ndarray]:
    spec = model.spec.decoder

    def stack(name: str) -> np.ndarray:
        return np.stack([get(f"model.layers.{i}.{name}") for i in range(spec.layers)])

    def qkv(kind: str) -> np.ndarray:
        parts = [stack(f"self_attn.{n}_proj.{kind}") for n in "qkv"]
        if kind == "weight":
            parts = [np.swapaxes(p, 1, 2) for p in parts]
        return np.concatenate([p.reshape(*p.shape[:-1], spec.kv_heads, -1) for p in parts], axis=-1)

    out = np.swapaxes(stack("self_attn.o_proj.weight"), 1, 2)
    gate, up = (np.swapaxes(stack(f"mlp.{n}_proj.weight"), 1, 2) for n in ("gate", "up"))
    layers = {
        "norm1": stack("input_layernorm.weight"),
        "qkv": qkv("weight"),
        "qkv_bias": qkv("bias"),
        "out": out.reshape(spec.layers, spec.kv_heads, -1, spec.width),
        "norm2": stack("post_attention_layernorm.weight"),
        "gate": gate,
        "up": up,
        "down": np.swapaxes(stack("mlp.down_proj.weight"), 1, 2),
    }
    return {("decoder", "layers", name): value for name, value in layers.items()} | {
        ("decoder", "embed"): get("model.embed_tokens.weight"),
        ("decoder", "norm"): get("model.norm.weight"),
    }
