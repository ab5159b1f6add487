"""What can go wrong between a prompt and its answer."""

import numpy as np

from vidlmm.generate.answers import Answer, Prompt

# What a type of too few bits asks for; float32 has no wider one to go to.
WIDER = {
    "float16": "float16 ends at 65504, so load the model with dtype='bfloat16' or 'float32'",
    "bfloat16": "load the model with dtype='float32'; if that does not help, its weights are damaged: fetch them again",
}
DAMAGED = "in float32 that means damaged weights: fetch them again"
BAD_MEDIA = "neither are its pixels or sounds: look at how they were made"


class PromptError(ValueError):
    """A prompt that this model cannot be asked; the message names it and says what would fit."""


class GenerationError(RuntimeError):
    """The model gave no usable scores: they are not finite, so that any token would be an accident.

    prompt: id of the prompt. token: number of the answer's token that they were for, from 1.
    answers: those of other prompts that were complete by then, in the order of the prompts.
    """

    def __init__(self, message: str, prompt: str, token: int, answers: tuple[Answer, ...] = ()) -> None:
        super().__init__(message)
        self.prompt, self.token, self.answers = prompt, token, answers


def not_finite(prompt: Prompt, token: int, dtype: str) -> GenerationError:
    """What to say of scores that are not finite.

    Args:
        dtype: the type that the model computes in.
    """
    advice = BAD_MEDIA if _damaged(prompt) else WIDER.get(dtype, DAMAGED)
    message = f"prompt {prompt.id}: the scores of token {token} are not finite, computed in {dtype}; {advice}"
    return GenerationError(message, prompt.id, token)


def _damaged(prompt: Prompt) -> bool:
    arrays = (prompt.frames, prompt.pictures, *prompt.sounds)
    return not all(np.isfinite(array).all() for array in arrays)
