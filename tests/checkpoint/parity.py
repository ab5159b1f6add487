"""A case's checkpoint loaded as users load it, and what the model makes of the case's inputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import vidlmm
from tests.checkpoint.released import case_inputs, write_folder
from tests.media.golden_case import Case
from vidlmm.generate.forward import Forward
from vidlmm.generate.items import Medium, prompt_of
from vidlmm.layout.row import IGNORE


class Parity:
    """folder: of the checkpoint. model: loaded from it. golden, inputs: of the case."""

    def __init__(self, case: Path, folder: Path, **given: Any) -> None:
        self.golden = Case(case)
        self.case = self.golden.text
        self.inputs = case_inputs(self.case)
        self.folder = write_folder(folder, self.case)
        self.model = vidlmm.from_pretrained(self.folder, dtype=None, **given)
        self._forward = Forward(self.model.module)

    def close(self, name: str, full: np.ndarray) -> None:
        """The output is the original's."""
        self.golden.assert_close(name, np.asarray(full))

    def embeds(self, ids: Any, media: Sequence[Medium] = ()) -> np.ndarray:
        """What enters the decoder."""
        return np.asarray(self._forward.embeds(prompt_of(ids, media, self.model.spec)))

    def scalar(self, name: str, value: float) -> None:
        """A number is the original's."""
        assert abs(value - float(np.ravel(self.golden.arrays[name])[0])) <= self.golden.tolerance, name

    def greedy(self, ids: Sequence[int], media: Sequence[Medium], steps: int) -> list[int]:
        """The likeliest next tokens, each found from the whole sequence before it."""
        found: list[int] = []
        for _ in range(steps):
            found.append(int(np.argmax(self.model.logits([*ids, *found], media)[-1])))
        return found


def padded(rows: Sequence[np.ndarray], length: int = 0) -> np.ndarray:
    """Rows [l, ...] of one batch, zeros behind their ends."""
    out = np.zeros((len(rows), max(length, *map(len, rows)), *rows[0].shape[1:]), np.float32)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return out


def token_loss(logits: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> float:
    """Mean cross entropy over the labelled tokens of all rows; labels are not shifted."""
    total = count = 0.0
    for scores, wanted in zip(logits, labels, strict=True):
        chosen = -label_logps(scores, wanted)
        total, count = total + chosen.sum(), count + len(chosen)
    return float(total / count)


def label_logps(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log probabilities of the labelled tokens of one row."""
    wanted = labels[1:]
    there = np.flatnonzero(wanted != IGNORE)
    scores = logits[:-1][there].astype(np.float64)
    scores = scores - scores.max(-1, keepdims=True)
    return (scores - np.log(np.exp(scores).sum(-1, keepdims=True)))[np.arange(len(there)), wanted[there]]
