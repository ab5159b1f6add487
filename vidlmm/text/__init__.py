"""Strings into ids and label masks: tokenizers, conversation templates, which tokens are trained."""

from vidlmm.text.conversation import (
    AUDIO,
    IGNORE,
    IMAGE,
    VIDEO,
    Encoded,
    Turn,
    encode_choices,
    encode_prompt,
    encode_training,
    render,
    stop_ids,
)
from vidlmm.text.messages import add_time_text, clean_answer, count_tags
from vidlmm.text.show import show
from vidlmm.text.templates import TEMPLATES, LabelRule, Template, get_template, system_template
from vidlmm.text.tokenizer import Tokenizer, TokenizerError, load_tokenizer

__all__ = [
    "AUDIO",
    "IGNORE",
    "IMAGE",
    "TEMPLATES",
    "VIDEO",
    "Encoded",
    "LabelRule",
    "Template",
    "Tokenizer",
    "TokenizerError",
    "Turn",
    "add_time_text",
    "clean_answer",
    "count_tags",
    "encode_choices",
    "encode_prompt",
    "encode_training",
    "get_template",
    "load_tokenizer",
    "render",
    "show",
    "stop_ids",
    "system_template",
]
