"""A prompt into an answer: sampling, batching, conversations."""

from vidlmm.generate.answers import Answer, Prompt
from vidlmm.generate.chat import Chat, conversation
from vidlmm.generate.engine import Generator
from vidlmm.generate.errors import GenerationError, PromptError
from vidlmm.generate.prompts import Shown, make_prompt, show
from vidlmm.generate.sampling import Sampling

__all__ = [
    "Answer",
    "Chat",
    "GenerationError",
    "Generator",
    "Prompt",
    "PromptError",
    "Sampling",
    "Shown",
    "conversation",
    "make_prompt",
    "show",
]
