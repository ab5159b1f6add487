"""What someone who never sees a clip scores by always giving the usual answer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vidlmm.evals.exact import normalise
from vidlmm.evals.questions import EvalQuestion


@dataclass(frozen=True)
class Majority:
    """The usual answer of each (kind, type) and of each kind, counted once.

    A question is answered with its type's most frequent true answer, in words; a multiple-choice
    question that does not offer it, with the type's most frequent true letter. A type that was never
    counted takes the answers of its whole kind.
    """

    texts: dict[tuple[str, ...], str]
    letters: dict[tuple[str, ...], str]

    def answer(self, question: EvalQuestion) -> str | None:
        """A letter, or a normalised text; None if questions of this kind were never counted."""
        keys = ((question.kind, question.type), (question.kind,))
        key = next((key for key in keys if key in self.texts), None)
        if key is None or question.kind == "open":
            return self.texts.get(key) if key else None
        offered = [
            letter
            for letter, option in zip(question.letters, question.options, strict=True)
            if normalise(option) == self.texts[key]
        ]
        return offered[0] if offered else self.letters[key]

    def right(self, question: EvalQuestion) -> bool:
        """Whether the usual answer is the true one."""
        truth = question.truth if question.kind == "multiple_choice" else normalise(question.truth)
        return self.answer(question) == truth


def count_majority(questions: Sequence[EvalQuestion]) -> Majority:
    """The usual answers of some questions; of equally frequent ones the first in order of the alphabet."""
    texts: dict[tuple[str, ...], Counter[str]] = {}
    letters: dict[tuple[str, ...], Counter[str]] = {}
    for question in questions:
        for key in ((question.kind, question.type), (question.kind,)):
            texts.setdefault(key, Counter())[normalise(question.truth_text)] += 1
            if question.kind == "multiple_choice":
                letters.setdefault(key, Counter())[question.truth] += 1
    return Majority({k: _most(c) for k, c in texts.items()}, {k: _most(c) for k, c in letters.items()})


def _most(counts: Counter[str]) -> str:
    return min(counts, key=lambda text: (-counts[text], text))
