"""Video-LLaVA (and LLaVA-Hound, which is built alike): the original's config.json and transformers', each from the
other's checkpoint."""

from typing import Any

from vidlmm.checkpoint import hound, video_llava_hf
from vidlmm.checkpoint.converting_fields import decoder_fields, held_layers, tower_fields, type_fields
from vidlmm.checkpoint.layout import Config, Shapes
from vidlmm.spec import ModelSpec

# The beginnings of the original's keys and of the port's.
NAMES = (
    (f"{hound.PROJECTOR}0.", f"{video_llava_hf.PROJECTOR}linear_1."),
    (f"{hound.PROJECTOR}2.", f"{video_llava_hf.PROJECTOR}linear_2."),
    (hound.VIDEO_TOWER, video_llava_hf.VIDEO_TOWER),
    (hound.IMAGE_TOWER, video_llava_hf.IMAGE_TOWER),
    ("model.embed_tokens.", f"{video_llava_hf.DECODER}embed_tokens."),
    ("model.layers.", f"{video_llava_hf.DECODER}layers."),
    ("model.norm.", f"{video_llava_hf.DECODER}norm."),
    ("lm_head.", video_llava_hf.HEAD),
)


def port_config(spec: ModelSpec, config: Config, shapes: Shapes) -> dict[str, Any]:
    """transformers' config.json of an original checkpoint; `spec.special_tokens` are the port's.

    Args:
        config, shapes: of the original.
    """
    held = held_layers(shapes, hound.VIDEO_TOWER)
    image = spec.image_tower or spec.tower
    ids = dict(spec.special_tokens)
    return {
        "architectures": ["VideoLlavaForConditionalGeneration"],
        "model_type": "video_llava",
        "image_seq_length": image.tokens,
        "image_token_index": ids["<image>"],
        "projector_hidden_act": "gelu",
        "text_config": {"model_type": "llama", **decoder_fields(spec.decoder, config)},
        "tie_word_embeddings": spec.decoder.tied_head,
        "video_seq_length": spec.frames.count * (spec.tower.grid**2 + 1),
        "video_token_index": ids["<video>"],
        "vision_config": tower_fields(spec.tower, held),
        "vision_feature_layer": spec.tower.layers - held - 1,
        "vision_feature_select_strategy": "full" if image.select == "all" else "default",
        **type_fields(config),
    }


def original_config(spec: ModelSpec, config: Config, shapes: Shapes) -> dict[str, Any]:
    """Video-LLaVA's own config.json of a checkpoint of transformers' layout that still holds attention along time.

    Args:
        config, shapes: of the port; names are those of its first release.
    """
    image = spec.image_tower or spec.tower
    return {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava",
        **decoder_fields(spec.decoder, config.get("text_config") or {}),
        "image_aspect_ratio": "pad",
        "mm_hidden_size": spec.tower.width,
        "mm_image_tower": "LanguageBind/LanguageBind_Image",
        "mm_projector_type": spec.connector.kind,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_video_tower": "LanguageBind/LanguageBind_Video_merge",
        "mm_vision_select_feature": "patch" if image.select == "patch" else "cls_patch",
        "mm_vision_select_layer": spec.tower.layers - held_layers(shapes, video_llava_hf.VIDEO_TOWER) - 1,
        "tokenizer_model_max_length": spec.decoder.max_length,
        "tokenizer_padding_side": "right",
        "use_mm_proj": True,
        **type_fields(config),
    }
