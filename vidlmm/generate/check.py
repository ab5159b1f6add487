"""Whether a prompt and a model belong together, before anything is computed."""

import numpy as np

from vidlmm.generate.answers import Prompt
from vidlmm.generate.errors import PromptError
from vidlmm.layout.plan import Table
from vidlmm.spec import ModelSpec


def check_prompt(prompt: Prompt, spec: ModelSpec, longest: int) -> None:
    """Compare a prompt with a model.

    Args:
        longest: most places of a prompt.

    Raises:
        PromptError: a prompt that is empty, leaves no place for an answer, is a training tree, or was laid out for
            other frames, other grids or another vocabulary.
    """
    row, frames, side = prompt.row, prompt.frames, spec.pixels.size

    def refuse(why: str) -> PromptError:
        return PromptError(f"prompt {prompt.id}: {why}")

    if not len(row):
        raise refuse("it is empty; expected at least one place")
    most = min(longest, spec.decoder.max_length - 1)
    if len(row) > most:
        raise refuse(
            f"it takes {len(row)} places, the model reads {most} before an answer; show fewer frames or media, or "
            "begin a new conversation"
        )
    if row.branch.any() or not np.array_equal(row.position, np.arange(len(row))):
        raise refuse("its row is a tree of several sequences; lay it out with `merge`, one sequence a prompt")
    if frames.shape[1:] != (side, side, 3):
        raise refuse(f"its frames are {list(frames.shape[1:])}, the model sees {[side, side, 3]}")
    if row.frames != len(frames):
        raise refuse(f"its row shows {row.frames} frames, {len(frames)} came with it")
    cells = np.array([0, 0, 0, *(side * side for side in spec.grids)])
    if row.table.max() >= len(cells):
        raise refuse(f"it uses visual level {row.table.max() - Table.VISUAL}, the model has {len(spec.grids)}")
    visual = row.table >= Table.VISUAL
    if (row.row[visual] >= cells[row.table[visual]] * len(frames)).any():
        raise refuse(f"it points past its {len(frames)} frames of {cells[Table.VISUAL :].tolist()} cells")
    ids = row.row[row.table == Table.TEXT]
    if len(ids) and not 0 <= ids.min() <= ids.max() < spec.decoder.vocab:
        raise refuse(f"it holds the ids {ids.min()} to {ids.max()}, the model's vocabulary has {spec.decoder.vocab}")
