"""Answers into scores: overall, for motion, and a question type at a time."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vidlmm.evals.bootstrap import gain, share
from vidlmm.evals.exact import equal, normalise
from vidlmm.evals.majority import count_majority
from vidlmm.evals.multiple_choice import parse_choice
from vidlmm.evals.questions import KINDS, EvalQuestion, Kind

Group = Literal["overall", "motion", "still", "type"]


@dataclass(frozen=True)
class Verdict:
    """What an answer says, and whether that is true.

    said: the letter, or the normalised text; None if the answer is unparsed (then it is not right).
    """

    said: str | None
    right: bool


@dataclass(frozen=True)
class Scored:
    """A question with the model's answer to its frames, its answer to blanked frames, and the verdicts."""

    question: EvalQuestion
    answer: str
    verdict: Verdict
    blind_answer: str
    blind_verdict: Verdict


@dataclass(frozen=True)
class Score:
    """The figures of one group of questions of one kind. Shares are of all questions, from 0 to 1.

    name: what the group is called. group: all questions; those that need several frames; those that do
    not; one question type. motion: whether the group has only questions that need several frames.
    count, clips: questions, and clips they are about.
    accuracy, low, high: share of right answers and its 95 % interval; unparsed answers are wrong ones.
    unparsed: share of answers that name no option (or are empty).
    blind, blind_low, blind_high, blind_unparsed: the same with the frames blanked.
    gain, gain_low, gain_high: accuracy minus blind on the same questions.
    majority: share that the usual answer gets right.
    """

    name: str
    group: Group
    kind: Kind
    motion: bool
    count: int
    clips: int
    accuracy: float
    low: float
    high: float
    unparsed: float
    blind: float
    blind_low: float
    blind_high: float
    blind_unparsed: float
    gain: float
    gain_low: float
    gain_high: float
    majority: float


@dataclass(frozen=True)
class Scores:
    """All figures of an evaluation.

    majority_from: whose usual answers `majority` gives: "training" or "evaluated" questions.
    manifest: what was evaluated, and with what.
    """

    rows: tuple[Score, ...]
    answers: tuple[Scored, ...]
    majority_from: Literal["training", "evaluated"]
    manifest: Mapping[str, Any]

    def find(self, group: Group, kind: Kind = "multiple_choice", name: str | None = None) -> Score:
        """The row of a group.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if row.group == group and row.kind == kind and name in (None, row.name):
                return row
        raise KeyError(f"no score of group {group!r}, kind {kind!r}, name {name!r}")

    def to_json(self) -> dict[str, Any]:
        """What scores.json holds; the answers stand in answers.jsonl."""
        rows = [dataclasses.asdict(row) for row in self.rows]
        return {"majority_from": self.majority_from, "scores": rows, "manifest": dict(self.manifest)}


def judge(question: EvalQuestion, answer: str) -> Verdict:
    """Whether an answer is right: its letter is the true one, or its words are those of the truth."""
    if question.kind == "multiple_choice":
        letter = parse_choice(answer, question.letters, question.options)
        return Verdict(letter, letter == question.truth)
    return Verdict(normalise(answer) or None, equal(answer, question.truth))


def score(
    questions: Sequence[EvalQuestion],
    answers: Sequence[str],
    blind_answers: Sequence[str],
    *,
    training: Sequence[EvalQuestion] = (),
    seed: int = 0,
    manifest: Mapping[str, Any] | None = None,
) -> Scores:
    """The scores of a model's answers.

    Args:
        answers, blind_answers: an answer a question, with its frames and with blanked ones.
        training: questions whose usual answers make the majority baseline; () takes the evaluated ones.
        seed: of the resampling.

    Raises:
        ValueError: no questions, or another number of answers.
    """
    if not questions or not len(questions) == len(answers) == len(blind_answers):
        raise ValueError(
            f"{len(questions)} questions, {len(answers)} answers and {len(blind_answers)} blind answers; "
            "give one of each for at least one question"
        )
    scored = tuple(
        Scored(question, answer, judge(question, answer), blind, judge(question, blind))
        for question, answer, blind in zip(questions, answers, blind_answers, strict=True)
    )
    majority = count_majority(training or questions)
    usual = [majority.right(question) for question in questions]
    return Scores(
        rows=tuple(_row(*group, scored, usual, seed) for group in _groups(questions)),
        answers=scored,
        majority_from="training" if training else "evaluated",
        manifest={} if manifest is None else manifest,
    )


def _groups(questions: Sequence[EvalQuestion]) -> Iterator[tuple[str, Group, Kind, list[int]]]:
    """Name, group, kind and the questions' indices, empty groups left out."""
    for kind in KINDS:
        own = [n for n, question in enumerate(questions) if question.kind == kind]
        if not own:
            continue
        yield "All questions", "overall", kind, own
        moving = [n for n in own if questions[n].motion]
        if moving:
            yield "Motion questions", "motion", kind, moving
        if moving and len(moving) < len(own):
            yield "Other questions", "still", kind, [n for n in own if not questions[n].motion]
        for name in dict.fromkeys(questions[n].type for n in own):
            yield name, "type", kind, [n for n in own if questions[n].type == name]


def _row(
    name: str, group: Group, kind: Kind, own: list[int], scored: Sequence[Scored], usual: Sequence[bool], seed: int
) -> Score:
    clips = [scored[n].question.clip for n in own]
    right = [float(scored[n].verdict.right) for n in own]
    blind = [float(scored[n].blind_verdict.right) for n in own]
    seen, unseen, more = share(right, clips, seed), share(blind, clips, seed), gain(right, blind, clips, seed)
    return Score(
        name=name,
        group=group,
        kind=kind,
        motion=all(scored[n].question.motion for n in own),
        count=len(own),
        clips=len(set(clips)),
        accuracy=seen.value,
        low=seen.low,
        high=seen.high,
        unparsed=_mean([scored[n].verdict.said is None for n in own]),
        blind=unseen.value,
        blind_low=unseen.low,
        blind_high=unseen.high,
        blind_unparsed=_mean([scored[n].blind_verdict.said is None for n in own]),
        gain=more.value,
        gain_low=more.low,
        gain_high=more.high,
        majority=_mean([usual[n] for n in own]),
    )


def _mean(flags: Sequence[bool]) -> float:
    return math.fsum(flags) / len(flags)
