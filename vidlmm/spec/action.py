"""What LLaVAction learns beside its text: verb, noun and action of a clip."""

from dataclasses import dataclass
from typing import Literal

Supervision = Literal["one_token", "three_tokens", "newline"]
ActionLayers = Literal["last_layer", "first_layer", "all_layers", "distillation", "reverse_distillation"]


@dataclass(frozen=True)
class ActionSpec:
    """Heads on hidden states of the video (LLaVAction llava_arch.py:47-50, llava_qwen.py:63-68).

    types: the heads in order, each with its number of classes, such as (("verb", 97), ("noun", 300)).
    supervision: which places the heads read: one or three learned tokens after the video, or its last newline.
    training: the hidden states that the loss reads.
    """

    types: tuple[tuple[str, int], ...] = ()
    supervision: Supervision = "one_token"
    training: ActionLayers = "last_layer"

    @property
    def tokens(self) -> int:
        """Learned tokens that follow the video's."""
        return {"one_token": 1, "three_tokens": 3, "newline": 0}[self.supervision]

    @property
    def places(self) -> int:
        """Places that the heads read."""
        return self.tokens or 1
