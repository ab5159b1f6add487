"""Whether a prompt and a model belong together, before anything is computed."""

from collections.abc import Callable, Sequence

import numpy as np

from vidlmm.generate.answers import Prompt
from vidlmm.generate.errors import PromptError
from vidlmm.layout.plan import Table
from vidlmm.layout.row import Row
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
    lengths = tuple(len(sound) for sound in prompt.sounds)

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
    if row.shows.pictures != len(prompt.pictures) or row.shows.sounds != lengths:
        raise refuse(
            f"its row shows {row.shows.pictures} pictures and sounds of {row.shows.sounds} frames, "
            f"{len(prompt.pictures)} and {lengths} came with it"
        )
    check_tables(row, spec, refuse)
    ids = row.row[row.table == Table.TEXT]
    if len(ids) and not 0 <= ids.min() <= ids.max() < spec.decoder.vocab:
        raise refuse(f"it holds the ids {ids.min()} to {ids.max()}, the model's vocabulary has {spec.decoder.vocab}")


def check_choices(prompt: Prompt, stops: Sequence[int], budget: int) -> None:
    """Whether each of a prompt's choices ends, and fits.

    Args:
        stops: ids that end an answer. budget: most tokens of this answer, its stop token included.

    Raises:
        PromptError: a choice without a stop token at its end, with one before it, or longer than the budget.
    """
    for ids in prompt.choices:
        if not ids or ids[-1] not in stops or set(ids[:-1]) & set(stops):
            raise PromptError(
                f"prompt {prompt.id}: the choice {list(ids)} does not have one stop token, at its end; the stop "
                f"tokens are {sorted(stops)} (see `vidlmm.text.encode_choices`)"
            )
        if len(ids) > budget:
            raise PromptError(
                f"prompt {prompt.id}: a choice takes {len(ids)} tokens, its answer may have {budget}; allow longer "
                "answers or shorten the prompt"
            )


def check_tables(row: Row, spec: ModelSpec, refuse: Callable[[str], Exception]) -> None:
    """Whether a row was laid out for the visual tables of a spec."""
    visual = row.table >= Table.VISUAL
    if not visual.any():
        return
    wanted = spec.tables(row.shows.clip_length, row.shows.sound_length)
    if row.tables != wanted:
        found, known = ([f"{table.unit} {table.rows}" for table in tables] for tables in (row.tables, wanted))
        raise refuse(f"it was laid out for the visual tables {found}, the model has {known}")
    number = row.table[visual] - Table.VISUAL
    if number.max() >= len(wanted):
        raise refuse(f"it uses visual table {number.max()}, the model has {len(wanted)}")
    held = np.array([table.rows * row.shows.units[table.unit] for table in wanted])
    if (row.row[visual] >= held[number]).any():
        raise refuse(f"it points past its {row.frames} frames of {[table.rows for table in wanted]} rows")
