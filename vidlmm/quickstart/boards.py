"""Storyboards as training rows: words of a script stand where a video's tokens will stand.

A cell of a board is a handful of words ("sand", "big", "red", "circle"). The row has the very places that
a clip of the same script would take, so the decoder learns to read a grid over time before it sees one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int32

from vidlmm.layout import Row, tree, video_plan
from vidlmm.spec import ModelSpec
from vidlmm.text import Turn, encode_training, get_template
from vidlmm.text.tokenizer import Tokenizer
from vidlmm.world.dataset import FORMS, all_turns
from vidlmm.world.script import Script, write_script
from vidlmm.world.storyboard import storyboard

# Words of a cell: the background, dots and up to three things of five words each.
WORDS = 18


@dataclass(frozen=True)
class Board:
    """A row of branches about a script, and the words of its cells: -1 where a cell has fewer."""

    row: Row
    words: Int32[np.ndarray, "n w"]


@dataclass(frozen=True)
class Boards:
    """Board `index` of an endless supply that depends on the seed alone; training combinations only."""

    spec: ModelSpec
    tokenizer: Tokenizer
    length: int
    seed: int
    forms: tuple[float, ...] = FORMS
    most: int = 3

    def __call__(self, index: int) -> Board:
        script = write_script(self.seed, "train", index)
        row = fit_turns(all_turns(script, self.seed, self.most, self.forms), self.spec, self.tokenizer, self.length)
        return Board(row, board_words(script, self.spec, self.tokenizer))


def fit_turns(turns: Sequence[tuple[str, str]], spec: ModelSpec, tokenizer: Tokenizer, length: int) -> Row:
    """As many of the turns as a row of `length` places holds, each a branch after the video's places."""
    template = get_template(spec.prompt.template)
    plan = video_plan(spec.frames.count, spec)
    encoded, room = [], length
    for question, answer in turns:
        said = (Turn("user", f"<image>\n{question}"), Turn("assistant", answer))
        one = encode_training(said, template, tokenizer, system=spec.prompt.system)
        # The first branch brings the prefix; each later one at most its own tokens and a copied place.
        takes = len(one.ids) + (len(plan) - 1 if not encoded else 1 - _prefix(encoded[0].ids))
        if takes <= room:
            encoded.append(one)
            room -= takes
    return tree(encoded, [plan])


def _prefix(ids: Int32[np.ndarray, " l"]) -> int:
    """Tokens up to and with the media placeholder, which all branches share."""
    return int(np.flatnonzero(ids < 0)[0]) + 1


def board_words(script: Script, spec: ModelSpec, tokenizer: Tokenizer) -> Int32[np.ndarray, "n w"]:
    """Token ids of the words of every cell, frame by frame, row by row."""
    boards = storyboard(script, spec.frames.count, spec.grids[0])
    return cell_ids([words for frame in boards for words in frame], tokenizer)


def cell_ids(cells: Sequence[Sequence[str]], tokenizer: Tokenizer) -> Int32[np.ndarray, "n w"]:
    """Token ids of the words of cells; -1 where a cell has fewer than WORDS."""
    found = np.full((len(cells), WORDS), -1, np.int32)
    for number, words in enumerate(cells):
        ids = [_word_id(word, tokenizer) for word in words[:WORDS]]
        found[number, : len(ids)] = ids
    return found


@lru_cache(maxsize=256)
def _word_id(word: str, tokenizer: Tokenizer) -> int:
    ids = tokenizer.encode(f" {word}")
    if len(ids) != 1:
        raise ValueError(f"the tokenizer splits {word!r} into {len(ids)} pieces; boards need whole words")
    return ids[0]
