"""What can go wrong between a prompt and its answer."""


class PromptError(ValueError):
    """A prompt that this model cannot be asked; the message names it and says what would fit."""


class GenerationError(RuntimeError):
    """The model gave no usable scores: they are not finite."""
