"""A conversation with a model about videos and pictures."""

import os
from collections.abc import Callable, Sequence

from vidlmm.generate.answers import Answer
from vidlmm.generate.engine import Generator
from vidlmm.generate.errors import PromptError
from vidlmm.generate.prompts import MediaKind, Shown, make_prompt, show
from vidlmm.generate.sampling import Sampling
from vidlmm.media.limits import DEFAULT_LIMITS, Limits
from vidlmm.spec import ModelSpec
from vidlmm.text import Turn
from vidlmm.text.messages import tag_pattern


class Chat:
    """Questions and answers, each seen by the next.

    Args:
        generator: the model.
        sampling: how answers are drawn; None takes the likeliest tokens.
        spec: how media are sampled and sized; None takes the model's own.
        limits: how much a media file may cost.
    """

    def __init__(
        self,
        generator: Generator,
        sampling: Sampling | None = None,
        *,
        spec: ModelSpec | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.generator, self.sampling = generator, sampling or Sampling()
        self.spec, self._limits = spec or generator.spec, limits
        self._media: list[Shown] = []
        self._turns: list[Turn] = []
        self._told = 0  # media whose tags stand in the conversation

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What has been said."""
        return tuple(self._turns)

    def show(self, kind: MediaKind, path: str | os.PathLike[str]) -> None:
        """Adds a medium that the next question is about.

        Raises:
            MediaError: the file does not open; the conversation goes on without it.
        """
        self._media.append(show(kind, path, self.spec, self._limits))

    def ask(self, question: str, on_text: Callable[[str], None] | None = None) -> str:
        """The answer.

        Args:
            on_text: gets the answer piece by piece while it is written.

        Raises:
            PromptError: an empty question, one with a media tag in it, one without media for a system that leaves such
                out, or a conversation that has become too long; it is then as it was before.
            GenerationError: scores that are not finite.
        """
        return self.answer(question, on_text).text

    def answer(self, question: str, on_text: Callable[[str], None] | None = None) -> Answer:
        """Like `ask`, with the tokens and the reason why the answer ends."""
        if not question.strip():
            raise PromptError("the question is empty")
        found = tag_pattern(self.generator.template).search(question)
        if found:
            raise PromptError(f"the question holds {found.group()}; media are shown beside it, not written into it")
        tags = [f"<{one.kind}>" for one in self._media[self._told :]]
        if self.generator.template.drops_text_questions and not tags:
            raise PromptError(
                f"{self.spec.name} reads questions that stand beside media, and leaves out all others; "
                "show the medium again with the question"
            )
        turns = [*self._turns, Turn("user", "\n".join([*tags, question]))]
        prompt = make_prompt(turns, self._media, self.spec, self.generator.tokenizer, id=str(len(self._turns) // 2))
        on_token = None if on_text is None else lambda _, piece: on_text(piece)
        answer = self.generator.generate([prompt], self.sampling, on_token)[0]
        self._turns = [*turns, Turn("assistant", answer.text)]
        self._told = len(self._media)
        return answer

    def reset(self, *, media: bool = False) -> None:
        """Begins a new conversation, about the same media unless `media` forgets them too."""
        self._turns, self._told = [], 0
        if media:
            self._media = []


def conversation(
    generator: Generator,
    media: Sequence[tuple[MediaKind, str | os.PathLike[str]]],
    sampling: Sampling | None = None,
    *,
    spec: ModelSpec | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Chat:
    """A new conversation about some files.

    Raises:
        MediaError: one of them does not open.
    """
    chat = Chat(generator, sampling, spec=spec, limits=limits)
    for kind, path in media:
        chat.show(kind, path)
    return chat
