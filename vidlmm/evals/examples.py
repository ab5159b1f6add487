"""Which answers a report shows."""

from collections.abc import Sequence

import numpy as np

from vidlmm.evals.score import Scored


def pick_examples(answers: Sequence[Scored], count: int = 12, seed: int = 0) -> list[Scored]:
    """A few answers that show what the model can do and what not.

    Drawn by the seed, not by looks: right and wrong ones in the proportion of all answers (at least one
    of each where there is one), of as many question types and clips as possible.

    Args:
        count: how many, fewer if there are not so many answers.
    """
    order = np.random.default_rng(seed).permutation(len(answers))
    right = [answers[n] for n in order if answers[n].verdict.right]
    wrong = [answers[n] for n in order if not answers[n].verdict.right]
    count = min(count, len(answers))
    share = round(count * len(right) / len(answers)) if answers else 0
    if right and wrong and count > 1:
        share = min(max(share, 1), count - 1)
    share = max(min(share, len(right)), count - len(wrong))
    taken: list[Scored] = []
    for pool, number in ((right, share), (wrong, count - share)):
        for _ in range(number):
            taken.append(pool.pop(_freshest(pool, taken)))
    return taken


def _freshest(pool: Sequence[Scored], taken: Sequence[Scored]) -> int:
    """The first of the pool whose type and clip were taken least often."""
    types = [one.question.type for one in taken]
    clips = [one.question.clip for one in taken]
    return min(range(len(pool)), key=lambda n: (clips.count(pool[n].question.clip), types.count(pool[n].question.type)))
