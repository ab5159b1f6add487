"""A tree shows every prediction exactly the context, target and weight that separate rows show it."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layout.specs import sequence, spec
from vidlmm.layout import Row, assemble, draw, merge, tree, truncate, video_plan
from vidlmm.layout.row import PLACES, VIDEO
from vidlmm.spec import SlowFastSpec

SMALL = spec(4, pool_mode="average", slowfast=SlowFastSpec(2))


def predictions(row: Row) -> Counter:
    """Weight of each (context, target), where a context is all that the place sees, with positions."""
    found: Counter[Any] = Counter()
    for i in range(len(row)):
        if row.weight[i] == 0:
            assert row.target[i] == 0
            continue
        sees = [j for j in range(i + 1) if row.branch[j] in (0, row.branch[i])]
        context = tuple((row.position[j], row.table[j], row.row[j]) for j in sees)
        found[context, row.target[i]] += int(row.weight[i])
    return found


def contexts(row: Row) -> set:
    """All contexts, of places without a loss too: what a cache would hold."""
    ones = Row(row.table, row.row, row.position, row.branch, row.target * 0, row.weight * 0 + 1)
    return {context for context, _ in predictions(ones)}


@st.composite
def families(draw_):
    """K sequences with a common beginning, with 0 to 2 videos in it, of few distinct ids so that
    branches often agree further, end inside one another, or are equal."""
    token = st.integers(0, 2)
    heads = st.lists(st.one_of(token, st.just(VIDEO)), min_size=1, max_size=5)
    head = draw_(heads.filter(lambda h: h.count(VIDEO) < 3))
    tails = draw_(st.lists(st.lists(token, max_size=5), min_size=1, max_size=4))
    sequences = []
    for tail in tails:
        numbers = head + tail
        mask = draw_(st.lists(st.booleans(), min_size=len(numbers), max_size=len(numbers)))
        trained = [i for i, (m, n) in enumerate(zip(mask, numbers, strict=True)) if m and n >= 0]
        sequences.append(sequence(numbers, trained))
    frames = draw_(st.lists(st.integers(1, 2), min_size=head.count(VIDEO), max_size=head.count(VIDEO)))
    return sequences, frames


@settings(max_examples=150, deadline=None, derandomize=True)
@given(families())
def test_a_tree_equals_its_separate_rows(family):
    sequences, items = family[0], [video_plan(frames, SMALL) for frames in family[1]]
    row = tree(sequences, items)
    separate = [merge(s.ids, s.labels, items) for s in sequences]
    assert predictions(row) == sum((predictions(r) for r in separate), Counter())
    assert contexts(row) == set().union(*(contexts(r) for r in separate))
    assert len(row) <= sum(len(r) for r in separate)
    assert row.frames == sum(item.frames for item in items)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(families(), st.integers(1, 20))
def test_a_truncated_tree_equals_its_truncated_separate_rows(family, length):
    sequences, items = family[0], [video_plan(frames, SMALL) for frames in family[1]]

    def cut(row: Row) -> Counter:
        try:
            return predictions(truncate(row, length))
        except ValueError:  # no trained token is left
            return Counter()

    separate = (cut(merge(s.ids, s.labels, items)) for s in sequences)
    assert cut(tree(sequences, items)) == sum(separate, Counter())


@settings(max_examples=30, deadline=None, derandomize=True)
@given(families())
def test_a_tree_inside_a_packed_batch_row_is_the_same_tree(family):
    sequences, items = family[0], [video_plan(frames, SMALL) for frames in family[1]]
    row = tree(sequences, items)
    clip = np.zeros((row.frames, 4, 4, 3), np.uint8)
    batch = assemble([(row, clip), (row, clip)], 1, 2 * len(row), 2 * row.frames, SMALL.tables(), assignment=[0, 0])
    where = batch.segment[0] == 1
    again = Row(*(getattr(batch, name)[0][where] for name in PLACES), tables=row.tables, shows=row.shows)
    assert predictions(again) == predictions(row)


def test_drawing_and_numbers_of_a_small_tree():
    questions = [sequence([7, VIDEO, 8, 1, 2, 3], [-2, -1]), sequence([7, VIDEO, 8, 4, 5], [-1])]
    row = tree(questions, [video_plan(2, SMALL)])
    assert draw(row) == "\n".join(["   T", " 0 SSn", "   SSnf", " 1 Fnf", "b1 TTTT", "b2 TTT"])
    np.testing.assert_array_equal(row.position, [*range(11), *range(11, 15), *range(11, 14)])
    np.testing.assert_array_equal(row.branch[-7:], [1, 1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(row.row[-7:], [8, 1, 2, 3, 8, 4, 5])
    np.testing.assert_array_equal(row.target[-7:], [0, 2, 3, 0, 0, 5, 0])


def test_prefix_labels_weigh_as_often_as_they_are_trained():
    rows = [sequence([5, 6, 7, 1], [1, 2, 3]), sequence([5, 6, 7, 2], [1, 3]), sequence([5, 6, 7, 3], [1, 3])]
    row = tree(rows, [])
    np.testing.assert_array_equal(row.weight, [3, 1, 1, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(row.target, [6, 7, 1, 0, 2, 0, 3, 0])


def test_the_last_shared_token_can_be_a_visual_one():
    rows = [sequence([5, VIDEO, 1], [2]), sequence([5, VIDEO, 2], [2])]
    row = tree(rows, [video_plan(1, SMALL)])
    assert draw(row) == "\n".join(["   T", " 0 SSn", "   SSn", "b1 f", "   T", "b2 f", "   T"])


def test_one_sequence_alone_is_an_ordinary_row():
    alone = sequence([5, VIDEO, 1, 2], [2, 3])
    items = [video_plan(1, SMALL)]
    one, plain = tree([alone], items), merge(alone.ids, alone.labels, items)
    for name in PLACES:
        np.testing.assert_array_equal(getattr(one, name), getattr(plain, name))


def test_no_sequence_is_refused():
    with pytest.raises(ValueError, match="at least one sequence"):
        tree([], [])


def test_sequences_without_a_common_beginning_are_refused():
    with pytest.raises(ValueError, match=r"no common beginning: they start \[\[1\], \[2\]\]"):
        tree([sequence([1, 3]), sequence([2, 3])], [])


def test_media_after_the_common_beginning_are_refused():
    with pytest.raises(ValueError, match="branch 2 holds media after the 1 tokens"):
        tree([sequence([1, 3]), sequence([1, VIDEO])], [video_plan(1, SMALL)])


def test_a_tree_with_a_missing_item_is_refused():
    with pytest.raises(ValueError, match="placeholder"):
        tree([sequence([1, VIDEO, 3]), sequence([1, VIDEO, 4])], [])
