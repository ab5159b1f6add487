"""The order of records: a function of the seed and the index, complete in every epoch."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidlmm.data.errors import DataError
from vidlmm.data.order import FixedOrder, PackedOrder, hashed, shuffled
from vidlmm.layout import pack


@given(count=st.integers(1, 200), seed=st.integers(0, 2**40), epoch=st.integers(0, 50))
def test_shuffled_is_a_permutation(count, seed, epoch):
    assert sorted(shuffled(count, seed, epoch)) == list(range(count))


def test_the_order_never_changes():
    # Saved positions of earlier versions rely on these values.
    assert shuffled(8, 3, 0).tolist() == [0, 3, 5, 2, 7, 4, 6, 1]
    assert int(hashed(1, 0)[0]) == 16294208416658607535


def test_epochs_and_seeds_differ():
    orders = {tuple(shuffled(50, seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_fixed_epochs_follow_without_a_gap():
    order = FixedOrder(records=5, batch=3, seed=1, epochs=2)
    assert order.batches() == 4
    drawn = [i for batch in range(4) for i in order.draws(batch)]
    assert sorted(drawn[:5]) == sorted(drawn[5:]) == list(range(5))
    assert [len(order.draws(b)) for b in range(4)] == [3, 3, 3, 1]


def test_without_shuffling():
    order = FixedOrder(records=3, batch=2, epochs=None, shuffle=False)
    assert [order.draws(b) for b in range(3)] == [(0, 1), (2, 0), (1, 2)]
    assert order.batches() is None


def test_stand_ins_leave_out_the_bad_one():
    assert FixedOrder(records=4, batch=2).stand_ins(2).tolist() == [0, 1, 3]
    packed = PackedOrder(lengths=(5, 9, 4, 5), frames=(1, 1, 1, 2), rows=1, length=10, budget=4)
    assert packed.stand_ins(0).tolist() == [2]


sizes = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 4)), min_size=1, max_size=60)


@given(sizes=sizes, rows=st.integers(1, 4), seed=st.integers(0, 5), shrink=st.integers(0, 3))
def test_packed_batches_hold_every_record_once_and_fit(sizes, rows, seed, shrink):
    lengths, frames = zip(*sizes, strict=True)
    order = PackedOrder(lengths, frames, rows=rows, length=20, budget=6, seed=seed, epochs=2)
    for epoch in range(2):
        assert sorted(i for batch in order.plan(epoch) for i in batch) == list(range(len(sizes)))
    for batch in range(order.batches() or 0):
        draws = order.draws(batch)
        assert draws
        assert sum(frames[i] for i in draws) <= 6
        # Records may turn out shorter than planned: first fit in this order still needs no further row.
        actual = [max(1, lengths[i] - (shrink * i) % 7) for i in draws]
        assert max(pack(actual, 20)) < rows


def test_packing_fills_rows():
    lengths = tuple(int(n) for n in np.random.default_rng(0).integers(20, 200, 400))
    order = PackedOrder(lengths, (1,) * 400, rows=8, length=512, budget=1000, epochs=1)
    assert sum(lengths) / (len(order.plan(0)) * 8 * 512) > 0.9


def test_packed_position_after_pickling():
    order = PackedOrder((3, 4, 5, 6), (0,) * 4, rows=1, length=9, budget=0, seed=2)
    wanted = [order.draws(b) for b in range(12)]
    again = pickle.loads(pickle.dumps(order))
    assert [again.draws(b) for b in reversed(range(12))] == wanted[::-1]


def test_keys_tell_orders_apart():
    same = {"records": 9, "batch": 3, "seed": 0}
    keys = {
        FixedOrder(**{**same, **change}).key()
        for change in (
            {},
            {"records": 10},
            {"batch": 2},
            {"seed": 1},
            {"epochs": 3},
            {"shuffle": False},
            {"content": "x"},
        )
    }
    assert len(keys) == 7
    packed = [PackedOrder((3, 4), (0, 0), 1, 9, 0), PackedOrder((4, 3), (0, 0), 1, 9, 0)]
    assert packed[0].key() != packed[1].key()


def test_settings_that_cannot_work():
    with pytest.raises(DataError, match="at least one record"):
        FixedOrder(records=0, batch=2)
    with pytest.raises(DataError, match="takes 11 tokens"):
        PackedOrder((11,), (0,), rows=1, length=10, budget=0)
    with pytest.raises(DataError, match="one 3 frames"):
        PackedOrder((1,), (3,), rows=1, length=10, budget=2)
    with pytest.raises(DataError, match="got none"):
        PackedOrder((), (), rows=1, length=10, budget=2)
