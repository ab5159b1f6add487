"""Decoders alone, as transformers names them: Qwen2, Llama, Mistral and Mixtral, on which the systems are built."""

from collections.abc import Collection

from vidlmm.checkpoint.keymap import Rules
from vidlmm.checkpoint.layout import Config, Layout, Overrides, Shapes
from vidlmm.checkpoint.parts import decoder_rules
from vidlmm.checkpoint.text_config import FAMILIES, family_of, text_decoder
from vidlmm.spec import NO_TOWER, ConnectorSpec, ModelSpec, PromptSpec

SEEING = ("tower", "projector")


def detect(config: Config, keys: Collection[str]) -> bool:
    """The model type of a decoder, its names, and no part that sees."""
    own = any(key.startswith("model.layers.") for key in keys)
    sees = any(part in key for key in keys for part in SEEING)
    return config.get("model_type") in FAMILIES and own and not sees


def spec_of(config: Config, shapes: Shapes, overrides: Overrides) -> ModelSpec:
    """The model of a checkpoint.

    Raises:
        WeightsError: a decoder that is not known, or tensors and fields that contradict one another.
    """
    return ModelSpec(
        name=str(config["model_type"]),
        tower=NO_TOWER,
        connector=ConnectorSpec(pool_stride=1, newline="no_token"),
        decoder=text_decoder(config, shapes),
        prompt=PromptSpec(template=family_of(config).template),
    )


def rules(spec: ModelSpec) -> Rules:
    """The names of its tensors."""
    return decoder_rules(spec.decoder)


LAYOUT = Layout("text_only", detect, spec_of, rules)
