"""What goes into generation and what comes out."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float32

from vidlmm.layout.batch import Media, Pixels
from vidlmm.layout.row import Row

StopReason = Literal[
    "stop",  # a stop token of the template
    "stop_text",  # the template's stop text was written
    "length",  # max_new_tokens, or the model's longest sequence
]


@dataclass(frozen=True, eq=False)
class Prompt:
    """One question as the model reads it.

    row: places of the prompt with its media (`vidlmm.layout.merge`), open for the answer.
    frames: [f, S, S, 3], the pixels of all its media in order. Prompts that show the same pixels share the
        tower's work, whether or not they share the array.
    id: its name. With the seed it decides the random numbers of its answer.
    sample: number of the sample where one prompt is answered several times.
    pictures: like frames, for a tower of their own. sounds: filter banks [t, mel].
    choices: ids of the answers that may be given, each up to its stop token (`vidlmm.text.encode_choices`);
        () leaves the model free.
    """

    row: Row
    frames: Pixels
    id: str
    sample: int = 0
    pictures: Pixels = field(default_factory=lambda: np.zeros((0, 0, 0, 3), np.uint8))
    sounds: tuple[Float32[np.ndarray, "_ _"], ...] = ()
    choices: tuple[tuple[int, ...], ...] = ()

    @property
    def media(self) -> Media:
        """All that it shows."""
        return Media(self.frames, self.pictures, self.sounds)


@dataclass(frozen=True)
class Answer:
    """What the model wrote.

    text: without white space around it, role names and stop text (`vidlmm.text.clean_answer`).
    ids: the tokens, without the stop token.
    """

    id: str
    text: str
    ids: tuple[int, ...]
    stop_reason: StopReason
