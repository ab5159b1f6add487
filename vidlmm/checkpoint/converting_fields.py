"""Fields of config.json that say what a model is, for layouts that a checkpoint did not come in."""

from collections.abc import Mapping
from typing import Any

from vidlmm.checkpoint.layout import Config, Shapes
from vidlmm.checkpoint.sizes import ACTIVATIONS, TOWERS
from vidlmm.spec import DecoderSpec, TowerSpec

# Of a decoder, what neither its spec nor its tensors say and a config.json does.
KEPT = (
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "initializer_range",
    "max_window_layers",
    "pad_token_id",
    "sliding_window",
    "use_cache",
    "use_sliding_window",
)
TYPES = ("torch_dtype", "dtype")
# transformers' name of an activation is the first that stands for ours.
NAMES = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}


def decoder_fields(spec: DecoderSpec, config: Config) -> dict[str, Any]:
    """A decoder as transformers' config classes name it.

    Args:
        config: the fields of the decoder that the checkpoint came with.
    """
    own = {} if not spec.head_dim else {"head_dim": spec.head_dim}
    return own | {
        **{name: config[name] for name in KEPT if config.get(name) is not None},
        "hidden_act": "silu",
        "hidden_size": spec.width,
        "intermediate_size": spec.mlp,
        "max_position_embeddings": spec.max_length,
        "num_attention_heads": spec.heads,
        "num_hidden_layers": spec.layers,
        "num_key_value_heads": spec.kv_heads,
        "rms_norm_eps": spec.norm_eps,
        "rope_theta": spec.rope_base,
        "tie_word_embeddings": spec.tied_head,
        "vocab_size": spec.vocab,
    }


def decoder_type(spec: DecoderSpec) -> str:
    """transformers' model type of a decoder: biases are Qwen2's, fewer heads for keys are Mistral's."""
    if spec.qkv_bias:
        return "qwen2"
    return "mistral" if spec.kv_heads < spec.heads else "llama"


def tower_fields(spec: TowerSpec, held: int) -> dict[str, Any]:
    """A vision tower as transformers' config classes name it, with all layers that the weights hold."""
    return {
        "model_type": "clip_vision_model" if spec.class_token else "siglip_vision_model",
        "hidden_act": NAMES[spec.activation],
        "hidden_size": spec.width,
        "image_size": spec.image_size,
        "intermediate_size": spec.mlp,
        "layer_norm_eps": spec.norm_eps,
        "num_attention_heads": spec.heads,
        "num_hidden_layers": held,
        "patch_size": spec.patch_size,
    }


def known_tower(spec: TowerSpec) -> str | None:
    """The release that a tower comes from, but for the layers that are run and the rows that go on; None if unknown."""

    def alike(tower: TowerSpec) -> tuple[Any, ...]:
        return tuple(value for name, value in vars(tower).items() if name not in ("layers", "select"))

    return next((name for name, tower in TOWERS.items() if alike(tower) == alike(spec)), None)


def held_layers(shapes: Shapes, prefix: str) -> int:
    """Layers of the tower whose tensors begin with `prefix`."""
    return shapes.count(f"{prefix}encoder.layers.{{i}}.layer_norm1.weight")


def type_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The type of the weights, as the checkpoint's config.json says it."""
    return {name: config[name] for name in TYPES if name in config}
