"""LLaVA-Video and LLaVA-OneVision: the original's config.json and transformers', each from the other's checkpoint."""

from typing import Any

from vidlmm.checkpoint import llava, llava_hf
from vidlmm.checkpoint.converting_fields import (
    decoder_fields,
    decoder_type,
    held_layers,
    known_tower,
    tower_fields,
    type_fields,
)
from vidlmm.checkpoint.layout import Config, Shapes
from vidlmm.spec import ModelSpec

# The beginnings of the original's keys and of the port's.
NAMES = (
    (f"{llava.PROJECTOR}0.", f"{llava_hf.PROJECTOR}linear_1."),
    (f"{llava.PROJECTOR}2.", f"{llava_hf.PROJECTOR}linear_2."),
    (llava.TOWER, llava_hf.TOWER),
    ("model.image_newline", llava_hf.NEWLINE),
    ("model.embed_tokens.", f"{llava_hf.DECODER}embed_tokens."),
    ("model.layers.", f"{llava_hf.DECODER}layers."),
    ("model.norm.", f"{llava_hf.DECODER}norm."),
    ("lm_head.", llava_hf.HEAD),
)
CLASSES = {"qwen2": "Qwen", "mistral": "Mistral", "llama": "Llama"}
# Pictures are always shown in tiles there; a checkpoint that had none is given the class's own number of views.
VIEWS = 9


def port_config(spec: ModelSpec, config: Config, shapes: Shapes) -> dict[str, Any]:
    """transformers' config.json of an original checkpoint; `spec.special_tokens` are the port's.

    Args:
        config, shapes: of the original.
    """
    held = held_layers(shapes, llava.TOWER)
    size = spec.tower.image_size
    ids = dict(spec.special_tokens)
    return {
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "model_type": "llava_onevision",
        "image_token_index": ids["<image>"],
        "video_token_index": ids["<video>"],
        "image_grid_pinpoints": [[height, width] for width, height in spec.pixels.pinpoints] or [[size, size]],
        "projector_hidden_act": "gelu",
        "text_config": {"model_type": decoder_type(spec.decoder), **decoder_fields(spec.decoder, config)},
        "tie_word_embeddings": spec.decoder.tied_head,
        "vision_aspect_ratio": f"anyres_max_{spec.connector.anyres_max or VIEWS}",
        "vision_config": {**tower_fields(spec.tower, held), "vision_use_head": False},
        "vision_feature_layer": spec.tower.layers - held - 1,
        "vision_feature_select_strategy": "default" if spec.tower.class_token else "full",
        **type_fields(config),
    }


def original_config(spec: ModelSpec, config: Config, shapes: Shapes) -> dict[str, Any]:
    """The original's config.json of a checkpoint of transformers' layout.

    Args:
        config, shapes: of the port; names are those of its first release.
    """
    name = known_tower(spec.tower)
    family = CLASSES[decoder_type(spec.decoder)]
    return {
        "architectures": [f"Llava{family}ForCausalLM"],
        "model_type": f"llava_{family.lower()}",
        **decoder_fields(spec.decoder, config.get("text_config") or {}),
        "image_aspect_ratio": f"anyres_max_{spec.connector.anyres_max}",
        "image_grid_pinpoints": [list(canvas) for canvas in spec.pixels.pinpoints],
        "mm_hidden_size": spec.tower.width,
        "mm_newline_position": spec.connector.newline,
        "mm_patch_merge_type": spec.connector.patch_merge,
        "mm_projector_type": spec.connector.kind,
        "mm_spatial_pool_mode": spec.connector.pool_mode,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": _select(spec, held_layers(shapes, llava_hf.TOWER)),
        "mm_vision_tower": None if name is None else f"{'openai' if spec.tower.class_token else 'google'}/{name}",
        "tokenizer_model_max_length": spec.decoder.max_length,
        "tokenizer_padding_side": "right",
        "use_mm_proj": True,
        **type_fields(config),
    }


def _select(spec: ModelSpec, held: int) -> int:
    """The select layer; with a SigLIP tower the field is written and not read."""
    return spec.tower.layers - held - 1 if spec.tower.class_token else -2
