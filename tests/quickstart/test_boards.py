"""Storyboards: a row has the places of a clip, its cells the script's words, nothing is held out of view."""

import numpy as np
import pytest

from vidlmm.layout import Table, video_plan
from vidlmm.quickstart.base import BASE
from vidlmm.quickstart.boards import Boards, board_words, fit_turns
from vidlmm.spec import SYSTEMS
from vidlmm.text import load_tokenizer
from vidlmm.world.motion import shown_at
from vidlmm.world.script import write_script

SPEC = SYSTEMS["quickstart"]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(BASE / "tokenizer.json")


def test_a_boards_row_shows_a_whole_video_and_fits(tokenizer):
    boards = Boards(SPEC, tokenizer, length=448, seed=1)
    for index in range(6):
        board = boards(index)
        assert len(board.row) <= 448
        assert board.row.frames == SPEC.frames.count
        visual = int((board.row.table >= Table.VISUAL).sum())
        assert visual == SPEC.frames.count * SPEC.grids[0] ** 2
        assert len(board.words) == visual
        assert board.row.branch.max() >= 3 and board.row.weight.sum() > 10


def test_turns_that_do_not_fit_are_left_out_and_the_rest_kept(tokenizer):
    prefix = len(video_plan(SPEC.frames.count, SPEC))
    turns = [("Describe the video.", "a red circle."), ("word " * 400, "no."), ("What is it?", "a circle.")]
    row = fit_turns(turns, SPEC, tokenizer, prefix + 100)
    assert row.branch.max() == 2 and len(row) <= prefix + 100


def test_cells_name_what_stands_in_them(tokenizer):
    script = next(s for s in (write_script(4, "train", n) for n in range(50)) if s.kind == "moves")
    words = board_words(script, SPEC, tokenizer)
    side = SPEC.grids[0]
    for frame in range(SPEC.frames.count):
        for thing in shown_at(script, frame / (SPEC.frames.count - 1)):
            cell = frame * side * side + int(thing.y * side) * side + int(thing.x * side)
            told = tokenizer.decode([int(i) for i in words[cell] if i >= 0])
            assert thing.colour in told and thing.shape in told and script.background in told


def test_boards_follow_from_seed_and_index(tokenizer):
    a, b = (Boards(SPEC, tokenizer, length=448, seed=1)(5) for _ in range(2))
    other = Boards(SPEC, tokenizer, length=448, seed=2)(5)
    assert np.array_equal(a.row.row, b.row.row) and np.array_equal(a.words, b.words)
    assert not np.array_equal(a.words, other.words)
